"""Where the registry is, how its tables come about, and what is said when it cannot be used."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from quintet.config import Project
from quintet.errors import ConfigError, RegistryError, UnreachableError
from quintet.registry import database
from quintet.registry.database import database_url, reading, writing
from quintet.registry.experts import list_experts
from quintet.registry.releases import live
from quintet.registry.tables import Table
from tests.registry.making import make_expert, make_project

PASSWORD = "s3cret@%/word"


def test_the_default_is_a_file_beside_the_config(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    list_experts(project, "hr")
    assert (tmp_path / "quintet.db").is_file()


def test_the_migrations_make_the_tables_that_the_code_knows(project: Project) -> None:
    with reading(project) as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Table.metadata) == []


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    scripts = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    assert scripts.get_current_head() == database.HEAD


def test_a_registry_of_a_newer_quintet_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path / "one", database=f"sqlite:///{tmp_path}/shared.db")
    with writing(project) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database._engines.clear()
    with pytest.raises(
        RegistryError, match=r"expected the revision 0006 or an older one, found 9999 .*upgrade Quintet"
    ):
        live(project, "hr")


def test_a_database_that_is_deleted_meanwhile_is_made_anew(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    make_expert(project)
    (tmp_path / "quintet.db").unlink()
    assert [expert.name for expert in list_experts(project, "hr")] == ["hr@1"]


def test_what_fails_half_way_changes_nothing(project: Project) -> None:
    def write_twice() -> None:
        with writing(project) as session:
            session.execute(text("INSERT INTO numbers VALUES ('hr', 7)"))
            session.execute(text("INSERT INTO numbers VALUES ('hr', 8)"))

    with pytest.raises(UnreachableError):
        write_twice()
    with reading(project) as session:
        assert session.execute(text("SELECT count(*) FROM numbers")).scalar() == 0


def test_sqlite_lets_readers_read_while_a_writer_writes(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    make_expert(project)
    with writing(project) as session:
        session.execute(text("DELETE FROM experts"))
        assert len(list_experts(project, "hr")) == 1
        with sqlite3.connect(tmp_path / "quintet.db") as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


def test_a_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "quintet.db").write_text("not a database, and long enough to be looked at. " * 40)
    with pytest.raises(UnreachableError, match=r"quintet.db cannot be used: file is not a database"):
        live(make_project(tmp_path), "hr")


def test_a_database_that_does_not_answer_is_explained_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUINTET_DATABASE_PASSWORD", PASSWORD)
    project = make_project(tmp_path, database="postgresql://ada:${QUINTET_DATABASE_PASSWORD}@127.0.0.1:1/quintet")
    with pytest.raises(UnreachableError, match=r"postgresql\+psycopg://ada:\*\*\*@127.0.0.1:1/quintet") as caught:
        live(project, "hr")
    assert "s3cret" not in str(caught.value)


def test_a_password_from_the_environment_arrives_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_DATABASE_PASSWORD", PASSWORD)
    project = make_project(tmp_path, database="postgresql://ada:${QUINTET_DATABASE_PASSWORD}@db.lan/quintet")
    url = database_url(project)
    assert (url.password, url.host, url.drivername) == (PASSWORD, "db.lan", "postgresql+psycopg")


def test_a_whole_url_may_stand_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://ada:pass%40word@db.lan/quintet")
    assert database_url(make_project(tmp_path, database="${DATABASE_URL}")).password == "pass@word"


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path, database="postgresql://ada:${QUINTET_NO_SUCH}@db.lan/quintet")
    with pytest.raises(ConfigError, match=r"registry.database: the environment variable QUINTET_NO_SUCH is not set"):
        live(project, "hr")


@pytest.mark.parametrize(
    "url", ["mysql://ada:s3cret@db.lan/quintet", "sqlite://", "sqlite:///:memory:", "ada:s3cret at db", "postgresql://a:s3cret@h:port/db"]
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"registry.database") as caught:
        live(make_project(tmp_path, database=url), "hr")
    assert "s3cret" not in str(caught.value)
