"""Several processes at one registry, and processes that are killed at it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.registry.audit import read_acts
from tests.registry.conftest import Databases, Processes
from tests.registry.making import make_expert, make_project


def test_processes_that_start_at_once_make_one_registry(project: Project, processes: Processes) -> None:
    assert processes("start", project) == [0] * 8


def test_experts_published_at_once_get_versions_of_their_own(project: Project, processes: Processes) -> None:
    assert sorted(processes("number", project)) == list(range(1, 11))


def test_machines_that_share_a_database_get_versions_of_their_own(
    tmp_path: Path, databases: Databases, processes: Processes
) -> None:
    database = databases()
    if database.startswith("sqlite"):
        database = f"sqlite:///{tmp_path}/shared.db"
    machines = [make_project(tmp_path / name, database=database) for name in ("one", "other")]
    assert sorted(processes("number", *machines)) == list(range(1, 21))


def test_a_folder_that_many_processes_find_at_once_is_adopted_once(
    project: Project, another_registry: Callable[[Project], Project], processes: Processes
) -> None:
    for _ in range(3):
        make_expert(project)
    project = another_registry(project)
    assert processes("adopt", project) == [3] * 4
    assert [(act.act, act.version) for act in read_acts(project, "hr")] == [("adopt", 1), ("adopt", 2), ("adopt", 3)]


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(project: Project, processes: Processes) -> None:
    assert processes("kill", project, kills=20, seed=1)["kills"] == 20


def test_a_kill_before_any_line_leaves_the_old_or_the_new(project: Project, processes: Processes) -> None:
    assert min(processes("sweep", project, step=60).values()) > 0


@pytest.mark.slow
def test_hundreds_of_kills_at_any_moment_leave_the_old_or_the_new(project: Project, processes: Processes) -> None:
    survived = processes("kill", project, kills=400, seed=2)
    assert {"publish", "release", "rollback", "delete"} <= survived.keys()


@pytest.mark.slow
def test_kills_before_every_fourth_line_leave_the_old_or_the_new(project: Project, processes: Processes) -> None:
    assert sum(processes("sweep", project, step=4).values()) > 150
