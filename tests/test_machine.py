"""What the process may use of the machine, by files as Linux has them."""

from pathlib import Path

import psutil
import pytest

from quintet import machine
from quintet.machine import memory_limit, usable_cores

HOST = psutil.virtual_memory().total


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(folder: Path, own: str) -> None:
    (folder / "own").write_text(own)


def test_without_control_groups_it_is_the_machines_memory(cgroups: Path) -> None:
    assert memory_limit() == HOST


def test_a_container_has_what_its_control_group_allows(cgroups: Path) -> None:
    write(cgroups, "0::/\n")
    (cgroups / "cgroup").mkdir()
    (cgroups / "cgroup" / "memory.max").write_text("1000000\n")
    assert memory_limit() == 1_000_000


def test_a_limit_further_up_holds_too(cgroups: Path) -> None:
    write(cgroups, "0::/a/b\n")
    (cgroups / "cgroup" / "a" / "b").mkdir(parents=True)
    (cgroups / "cgroup" / "a" / "b" / "memory.max").write_text("max\n")
    (cgroups / "cgroup" / "a" / "memory.max").write_text("2000000\n")
    assert memory_limit() == 2_000_000


def test_the_first_version_of_control_groups_is_known(cgroups: Path) -> None:
    write(cgroups, "9:cpu,cpuacct:/x\n8:memory:/docker/1\n")
    folder = cgroups / "cgroup" / "memory" / "docker" / "1"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("3000000\n")
    (cgroups / "cgroup" / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_limit() == 3_000_000


def test_there_is_at_least_one_core() -> None:
    assert usable_cores() >= 1
