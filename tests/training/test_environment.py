import getpass
import json
import platform
import shutil
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quintet.training import environment
from quintet.training.environment import describe_environment

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="git is not installed")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that holds a project folder."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = tmp_path / "repository" / "company"
    root.mkdir(parents=True)
    (root / "quintet.yaml").write_text("company: Tiny\n")
    git(root.parent, "init", "--quiet")
    commit_all(root.parent)
    return root


def git(folder: Path, *arguments: str) -> str:
    assert GIT is not None
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run([GIT, "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit_all(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All")


def put_git_on_path(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_libraries_that_shape_a_run_are_named_by_version(tmp_path: Path) -> None:
    versions = describe_environment(tmp_path)["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__
    assert {"quintet", "transformers", "peft", "trl"} <= versions.keys()


def test_a_library_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "bitsandbytes":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(environment, "version", version)
    versions = describe_environment(tmp_path)["versions"]
    assert "bitsandbytes" not in versions
    assert versions["safetensors"] == "1.0"


def test_cores_and_memory_are_those_of_this_machine(tmp_path: Path) -> None:
    found = describe_environment(tmp_path)
    assert found["cpu"]["cores"] >= 1
    assert found["memory_bytes"] > 100 * 2**20


def test_what_lies_beside_the_weights_is_written_without_torch() -> None:
    modules = "quintet.training.environment", "quintet.training.curve", "quintet.registry.model_card"
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_can_be_written_as_json(tmp_path: Path) -> None:
    found = describe_environment(tmp_path)
    assert json.loads(json.dumps(found)) == found


def test_neither_host_nor_user_nor_folder_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_SECRET", "do-not-tell")
    told = json.dumps(describe_environment(repository))
    user = getpass.getuser()
    for secret in (socket.gethostname(), f'"{user}"', f"/{user}", str(repository), str(Path.home()), "do-not-tell"):
        assert secret not in told


def test_every_gpu_is_named_with_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=85_000_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    assert describe_environment(tmp_path)["gpus"] == [{"name": "NVIDIA H100", "memory_bytes": 85_000_000_000}] * 2


def test_without_torch_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert describe_environment(tmp_path)["gpus"] == []


@needs_git
def test_the_commit_of_the_project_folder_is_named(repository: Path) -> None:
    found = describe_environment(repository)["git"]
    assert found == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


@needs_git
@pytest.mark.parametrize("file", ["quintet.yaml", "new.jsonl"])
def test_a_changed_or_new_file_makes_the_folder_dirty(repository: Path, file: str) -> None:
    (repository / file).write_text("company: Another\n")
    assert describe_environment(repository)["git"]["dirty"] is True


@needs_git
def test_what_training_writes_does_not_make_the_folder_dirty(repository: Path) -> None:
    (repository / "runs").mkdir()
    (repository / "runs" / "metrics.jsonl").write_text("{}\n")
    assert describe_environment(repository)["git"]["dirty"] is False


@needs_git
def test_a_change_elsewhere_in_the_repository_does_not_make_the_folder_dirty(repository: Path) -> None:
    (repository.parent / "website.html").write_text("<p>\n")
    assert describe_environment(repository)["git"]["dirty"] is False


@needs_git
def test_a_folder_that_no_commit_holds_has_no_commit(repository: Path) -> None:
    fresh = repository.parent / "fresh"
    fresh.mkdir()
    assert describe_environment(fresh)["git"] is None


@needs_git
def test_a_git_hooks_variables_do_not_name_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    assert describe_environment(repository)["git"]["dirty"] is False


def test_outside_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_environment(tmp_path)["git"] is None


@needs_git
def test_without_git_there_is_no_commit(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_environment(repository)["git"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="the slow git is a shell script")
def test_a_git_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_git_on_path(tmp_path, "while :; do :; done", monkeypatch)
    monkeypatch.setattr(environment, "PATIENCE", 0.2)
    assert describe_environment(tmp_path)["git"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="the git is a shell script")
def test_a_status_that_fails_leaves_dirty_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_git_on_path(tmp_path, 'case "$*" in *rev-parse*) echo abc; echo def;; *) exit 1;; esac', monkeypatch)
    assert describe_environment(tmp_path)["git"] == {"commit": "abc", "dirty": None}
