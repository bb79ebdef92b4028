"""What one machine has learnt is in the object store, and every server fetches it from there."""

import logging
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.router.router import Router, router_path
from quintet.router.shared import FILE, SharedRouter, share_router
from tests.registry.making import make_project


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Project, Project]:
    """One that trains and one that serves, over one store."""
    training, serving = (make_project(tmp_path / name, artifacts=f"file://{tmp_path}/store") for name in ("a", "b"))
    return training, serving


def threshold(project: Project) -> float:
    return Router.load(router_path(project)).threshold


def save(project: Project, router: Router, threshold: float) -> None:
    about = {name: getattr(router, name) for name in Router.__dataclass_fields__} | {"threshold": threshold}
    Router(**about).save(router_path(project))


def test_a_server_fetches_what_was_learnt_and_what_is_learnt_later(
    machines: tuple[Project, Project], router: Router
) -> None:
    training, serving = machines
    shared = SharedRouter(serving, seconds=0)
    shared.refresh()
    assert not router_path(serving).exists()
    for learnt in (0.5, 0.75):
        save(training, router, learnt)
        share_router(training)
        shared.refresh()
        assert threshold(serving) == learnt
    assert [path.name for path in serving.runs.iterdir()] == [FILE]


def test_it_asks_no_more_often_than_it_is_to(machines: tuple[Project, Project], router: Router) -> None:
    training, serving = machines
    shared = SharedRouter(serving, seconds=60)
    shared.refresh()
    save(training, router, 0.5)
    share_router(training)
    shared.refresh()
    assert not router_path(serving).exists()


def test_what_is_there_already_need_not_be_put_there_again(machines: tuple[Project, Project], router: Router) -> None:
    training, serving = machines
    save(training, router, 0.5)
    share_router(training, unless_there=True)
    save(training, router, 0.75)
    share_router(training, unless_there=True)
    SharedRouter(serving).refresh()
    assert threshold(serving) == 0.5


def test_a_store_that_is_gone_leaves_the_router_that_is_there_and_says_so_once(
    machines: tuple[Project, Project],
    router: Router,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    training, serving = machines
    save(training, router, 0.5)
    share_router(training)
    shared = SharedRouter(serving, seconds=0)
    shared.refresh()

    def fail(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.exists", fail)
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        shared.refresh()
    assert caplog.text.count("the router is the one that is here already: cannot look into") == 1
    assert threshold(serving) == 0.5
    monkeypatch.undo()
    save(training, router, 0.75)
    share_router(training)
    shared.refresh()
    assert threshold(serving) == 0.75


def test_without_a_store_nothing_is_shared(tmp_path: Path, router: Router) -> None:
    project = make_project(tmp_path / "alone")
    save(project, router, 0.5)
    share_router(project)
    SharedRouter(project, seconds=0).refresh()
    assert threshold(project) == 0.5
