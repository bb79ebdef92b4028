"""What breaks around a running server, and what still works then; docs/operations.md tells the same to operators."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import Engine, event

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.registry import database
from quintet.registry.audit import search_acts
from quintet.registry.budgets import parse_budget
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine, Serve
from tests.server.raw_client import RawClient

ANSWER: list[Token | Exception] = [Token(40), Token(None, "stop")]
QUERY = {"query": "Hello?", "max_tokens": 10}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Project:
    project = write_project(tmp_path_factory.mktemp("faults") / "company", tiny_base)
    file = project.root / "quintet.yaml"
    values = yaml.safe_load(file.read_text())
    values["departments"]["hr"]["keep_requests"] = "30d"
    file.write_text(yaml.safe_dump(values))
    project = Project.load(project.root)
    make_expert(project, "hr")
    make_expert(project, "finance", seed=2)
    return project


@pytest.fixture
def company(template: Project, tmp_path: Path) -> Project:
    """Two departments with experts, of which HR keeps its requests."""
    return Project.load(Path(shutil.copytree(template.root, tmp_path / "company")))


@contextmanager
def opened(serve: Serve, project: Project, engine: ScriptedEngine | None = None) -> Iterator[httpx.Client]:
    with (
        serve(create_app(project, engine or ScriptedEngine(ANSWER))) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        yield client


class FullDisk(sqlite3.Connection):
    """A database that can be read, and has no room for anything more."""

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(_FullDiskCursor)


class _FullDiskCursor(sqlite3.Cursor):
    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE"):
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, *arguments)

    def executemany(self, statement: str, *arguments: Any) -> Any:
        return self.execute(statement)


@contextmanager
def full_disk() -> Iterator[None]:
    def connect_to_it(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        options["factory"] = FullDisk

    event.listen(Engine, "do_connect", connect_to_it)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", connect_to_it)


def test_with_a_full_disk_answers_go_on_and_what_is_not_kept_is_told(
    company: Project, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(serve, company) as client:
        with full_disk():
            answer = client.post("/api/hr", json=QUERY)
            opinion = {"request_id": answer.headers["x-request-id"], "rating": "down"}
            refused = client.post("/api/feedback", json=opinion)
        accepted = client.post("/api/feedback", json=opinion)
    assert answer.status_code == 200
    assert f"request {answer.headers['x-request-id']} of hr@1 is not kept" in caplog.text
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (503, "registry_unreachable")
    assert "database or disk is full" in error["message"]
    assert accepted.status_code == 200


def test_with_a_full_disk_nobody_asks_beyond_a_budget_that_cannot_be_counted(company: Project, serve: Serve) -> None:
    budgets = [parse_budget("1k/day")]
    limited, free = (create_key(company, departments=["hr"], budgets=each)[1] for each in (budgets, []))
    with opened(serve, company) as client:
        with full_disk():
            refused = client.post("/api/hr", json=QUERY, headers={"X-API-Key": limited})
            assert client.post("/api/hr", json=QUERY, headers={"X-API-Key": free}).status_code == 200
        assert client.post("/api/hr", json=QUERY, headers={"X-API-Key": limited}).status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "registry_unreachable")


def test_with_a_full_disk_no_config_is_taken_up_unseen(company: Project, serve: Serve) -> None:
    with opened(serve, company) as client:
        file = company.root / "quintet.yaml"
        file.write_text(file.read_text().replace("Answers hr questions.", "Another."))
        with full_disk():
            assert client.post("/admin/reload").status_code == 503
        assert "Another." not in client.get("/api/models").text
        assert client.post("/admin/reload").status_code == 200
        assert "Another." in client.get("/api/models").text
    assert len(search_acts(company, act="reload")) == 1


@pytest.mark.parametrize("has_keys", [False, True])
def test_without_its_database_a_server_answers_those_who_watch_it_and_nobody_else(
    company: Project, serve: Serve, has_keys: bool
) -> None:
    key = {"X-API-Key": create_key(company, departments=["hr"])[1]} if has_keys else {}
    with opened(serve, company) as client:
        assert client.get("/ready").status_code == 200
        (company.root / "quintet.db").write_bytes(b"no database any more " * 400)
        assert [client.get(path).status_code for path in ("/ready", "/health")] == [200, 200]
        assert client.post("/api/hr", json=QUERY, headers=key).status_code == 503


def test_a_locked_database_holds_up_what_is_written_and_not_what_is_asked(
    company: Project, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with opened(serve, company) as client, ExitStack() as held:
        other = held.enter_context(closing(sqlite3.connect(company.root / "quintet.db", isolation_level=None)))
        other.execute("BEGIN IMMEDIATE")
        answer = client.post("/api/finance", json=QUERY)
        opinion = {"request_id": answer.headers["x-request-id"], "rating": "up"}
        refused = client.post("/api/feedback", json=opinion)
        assert client.get("/ready").status_code == 200
        other.execute("ROLLBACK")
        assert client.post("/api/feedback", json=opinion).status_code == 200
    assert answer.status_code == 200
    assert refused.status_code == 503
    assert "database is locked" in refused.json()["error"]["message"]


def test_an_expert_whose_files_are_gone_answers_while_it_is_in_memory_and_hides_no_other(
    company: Project, serve: Serve
) -> None:
    with opened(serve, company) as client:
        assert client.post("/api/hr", json=QUERY).status_code == 200
        shutil.rmtree(company.runs)
        assert client.post("/api/hr", json=QUERY).json()["expert"] == "hr@1"
        gone = client.post("/api/finance", json=QUERY)
        told = {one["name"]: one for one in client.get("/api/models").json()["models"]}
        assert client.post("/api/infer/base", json=QUERY).status_code == 200
        assert client.get("/ready").status_code == 200
    error = gone.json()["error"]
    assert (gone.status_code, error["code"]) == (404, "model_files_missing")
    assert str(company.runs / "finance") in error["message"]
    assert (told["hr"]["status"], told["finance"]["status"]) == ("loaded", "not loaded")
    assert str(company.runs / "finance") in told["finance"]["problem"]


def test_idle_connections_take_nothing_from_others(company: Project, serve: Serve) -> None:
    with opened(serve, company) as client, ExitStack() as held:
        address = str(client.base_url)
        idle = [held.enter_context(RawClient(address.rstrip("/"))) for _ in range(100)]
        for each in idle:
            each.send(b"GET /ready HTTP/1.1\r\nHost: q\r\n\r\n")
        assert {each.response()[0] for each in idle} == {200}
        assert client.post("/api/hr", json=QUERY).status_code == 200
        idle[0].send(b"GET /health HTTP/1.1\r\nHost: q\r\n\r\n")
        assert json.loads(idle[0].response()[2])["status"] == "ok"
