"""A project over each database that a registry may have: SQLite, and a PostgreSQL that is started for the tests."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from quintet.config import Project
from quintet.registry.database import close_engines
from tests.registry.making import make_project

Databases = Callable[[], str]
Processes = Callable[..., Any]
ROOT = Path(__file__).parents[2]
NUMBERS = count(1)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a PostgreSQL of our own, on a socket in a temporary folder, and yield its URL."""
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are not on the path")
    # PostgreSQL refuses to be run by root.
    as_user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="quintet-pg-"))
    if as_user:
        shutil.chown(folder, as_user["user"], as_user["group"])
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    data, quiet = str(folder / "data"), {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **as_user}
    try:
        subprocess.run(["initdb", "-D", data, "-U", "quintet", "-A", "trust", "--no-sync"], **quiet)
        subprocess.run(["pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"], **quiet)
        yield f"postgresql+psycopg://quintet@/postgres?host={folder}"
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL that all tests share."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Makes an empty database of one kind, and returns its URL."""
    if request.param == "sqlite":
        yield lambda: f"sqlite:///registry-{next(NUMBERS)}.db"
        return
    server: str = request.getfixturevalue("postgres")
    admin = create_engine(server)

    def create() -> str:
        schema = f"registry_{next(NUMBERS)}"
        with admin.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        return f"{server}&options=-csearch_path%3D{schema}"

    yield create
    admin.dispose()
    close_engines()


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    return make_project(tmp_path / "company", database=databases())


@pytest.fixture
def another_registry(databases: Databases) -> Callable[[Project], Project]:
    """Gives a project folder an empty database: as if its own had been lost."""
    return lambda project: make_project(project.root, database=databases())


@pytest.fixture
def processes() -> Processes:
    """Runs something of `processes.py`, in a process that is light enough to be forked and killed many times."""

    def run(what: str, *projects: Project, **more: int) -> Any:
        roots = [str(project.root) for project in projects]
        arguments = [what, projects[0].config.registry.database, roots, more]
        command = [sys.executable, "-W", "error", "-m", "tests.registry.processes", json.dumps(arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return json.loads(done.stdout)

    return run
