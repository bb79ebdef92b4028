"""Runs the command as a user types it, and makes a project that is trained once for all."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quintet import cli
from quintet.config import Project
from tests.conftest import write_project


class Shell:
    """Runs `quintet` in this process, as `main` would be run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["quintet", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *arguments: str | Path) -> Any:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def quintet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose two departments are trained and evaluated by one quickstart, and released."""
    project = write_project(tmp_path_factory.mktemp("cli") / "company", tiny_base)
    command = [sys.executable, "-m", "quintet.cli", "quickstart", str(project.root), "--no-serve"]
    subprocess.run(command, check=True, capture_output=True)
    return project
