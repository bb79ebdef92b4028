"""Runs the command as a user types it, and makes a project that is trained once for all."""

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from quintet import cli
from quintet.config import Project
from tests.conftest import write_project


def run_main(*arguments: str | Path) -> int:
    """Run `quintet` in this process, as `main` would be run, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["quintet", *map(str, arguments)])
        # `serve` logs to what is standard error now, which is closed when the test has ended.
        patch.setattr(logging.root, "handlers", logging.root.handlers)
        try:
            cli.main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
    return 0


class Shell:
    """Runs `quintet` in this process, and catches what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        code = run_main(*arguments)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *arguments: str | Path) -> Any:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


def copy_of(project: Project, folder: Path) -> Project:
    shutil.copytree(project.root, folder)
    return Project.load(folder)


@pytest.fixture
def quintet(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose two departments are trained and evaluated by one quickstart, and released. Not to be changed."""
    project = write_project(tmp_path_factory.mktemp("cli") / "company", tiny_base)
    assert run_main("quickstart", project.root, "--no-serve") == 0
    return project
