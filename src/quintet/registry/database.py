"""The registry's database: SQLite beside quintet.yaml, or PostgreSQL by URL. Knows nothing of what the tables mean.

Writers come one after the other, on both, so that what a writer has read cannot change before it writes.
"""

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from quintet.config import Project
from quintet.errors import ConfigError, RegistryError, UnreachableError

DATABASE_FILE = "quintet.db"
HEAD = "0006"
"""The newest of the migrations: a database that has it needs none of them."""
BUSY_SECONDS = 30.0
COUNTING_SECONDS = 5
_WRITERS_LOCK = int.from_bytes(b"quintet", "big")
_WRITES = "quintet_writes"
_COUNTS = "quintet_counts"
_SQLITE_COUNTS = (f"PRAGMA busy_timeout = {COUNTING_SECONDS * 1000}", "PRAGMA synchronous = NORMAL")
_POSTGRESQL_COUNTS = f"SET LOCAL lock_timeout = '{COUNTING_SECONDS}s'; SET LOCAL synchronous_commit = off"

# A forked child must not use what its parent has open, so that engines are kept by process.
_engines: dict[tuple[int, URL], Engine] = {}
_opening = threading.Lock()


@contextmanager
def reading(project: Project) -> Iterator[Session]:
    """Yield a session to read with; raise UnreachableError when the database does not answer."""
    url = database_url(project)
    with _explained(url), Session(_open(url)) as session:
        yield session


@contextmanager
def writing(project: Project) -> Iterator[Session]:
    """Yield a session whose changes are made all together at the end, or not at all; only one is under way at a time.

    Raises UnreachableError when the database does not answer, or another writer takes too long.
    """
    url = database_url(project)
    with _explained(url), Session(_open(url).execution_options(**{_WRITES: True})) as session, session.begin():
        _wait_for_other_writers(session.connection())
        yield session


@contextmanager
def counting(project: Project) -> Iterator[Connection]:
    """Yield a connection to count with, as each request may: it waits for no writers but those of the rows it locks.

    When the power fails, the counts of the last moment may be lost; when a process is killed, none are. Raises
    UnreachableError when the database does not answer, or a writer takes longer than a request can wait.
    """
    url = database_url(project)
    with _explained(url), _open(url).execution_options(**{_WRITES: True, _COUNTS: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(_POSTGRESQL_COUNTS)
        yield connection


@contextmanager
def held_open(project: Project) -> Iterator[None]:
    """Keep a SQLite file open: the last to close one writes its log back, which each request would have to wait for."""
    url = database_url(project)
    if url.get_backend_name() != "sqlite":
        yield
        return
    with _explained(url):
        connection = _open(url).connect()
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        connection.rollback()
    with connection:
        yield


def database_url(project: Project) -> URL:
    """Return the URL of the project's registry; raise ConfigError, without its password, when it cannot be used."""
    named = project.database
    if named is None:
        return URL.create("sqlite", database=str((project.root / DATABASE_FILE).absolute()))
    try:
        url = make_url(named)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "registry.database is no URL; expected one such as postgresql://user:${PASSWORD}@host/name"
        ) from None
    match url.get_backend_name():
        case "sqlite" if url.database and url.database != ":memory:":
            return url.set(database=str((project.root / url.database).absolute()))
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+psycopg")
    raise ConfigError(f"registry.database: expected sqlite:///FILE or postgresql://..., found {shown(url)}")


def shown(url: URL) -> str:
    """Return a URL to be read by people: without its password, wherever that stands."""
    return url.set(query={}).render_as_string(hide_password=True)


def _open(url: URL) -> Engine:
    """Return this process's engine of that URL, over a database whose tables are up to date."""
    key = (os.getpid(), url)
    if key in _engines and not (url.get_backend_name() == "sqlite" and not os.path.exists(str(url.database))):
        return _engines[key]
    with _opening:
        engine = _engines.get(key) or _make_engine(url)
        _migrate(engine)
        _engines[key] = engine
    return engine


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise ConfigError("registry.database: PostgreSQL needs a driver: pip install 'quintet[postgres]'") from None
    # A file is opened in a moment, and one that nobody holds open can be forked from, moved and deleted.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # its driver would begin transactions late, and none for a change of tables
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_COUNTS):
        for setting in _SQLITE_COUNTS:
            connection.exec_driver_sql(setting)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN")


def _wait_for_other_writers(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITERS_LOCK})


def _migrate(engine: Engine) -> None:
    """Bring the tables up to date, when they are not; of many processes that start at once, one does it."""
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    if engine.dialect.name == "sqlite":
        _let_readers_and_writers_overlap(engine)
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        _wait_for_other_writers(connection)
        if _revision(connection) != HEAD:
            from alembic import command
            from alembic.config import Config
            from alembic.util import CommandError

            config = Config()
            folder = str(Path(__file__).parent / "migrations")
            config.set_main_option("script_location", folder.replace("%", "%%"))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise RegistryError(
                    f"the registry's tables are not of this version of Quintet: expected the revision {HEAD} or an "
                    f"older one, found {_revision(connection)} ({error}); upgrade Quintet"
                ) from None


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _let_readers_and_writers_overlap(engine: Engine) -> None:
    """Turn the write-ahead log on, for good; while others do so too, SQLite does not wait but refuses."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except engine.dialect.loaded_dbapi.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise OperationalError("PRAGMA journal_mode = WAL", None, error) from error
            time.sleep(0.01)
        finally:
            connection.close()


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        raise UnreachableError(
            f"the registry {shown(url)} cannot be used: {reason}; "
            "check that it runs, and registry.database in quintet.yaml"
        ) from error


@atexit.register
def close_engines() -> None:
    """Close what this process has open; it is opened again when it is needed."""
    while _engines:
        (process, _), engine = _engines.popitem()
        engine.dispose(close=process == os.getpid())
