"""What a running server takes up of a changed quintet.yaml, and what it does not."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.registry.audit import search_acts
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine

ANSWER: list[Token | Exception] = [Token(40), Token(None, "stop")]
QUERY = {"query": "Hello?"}
LEGAL = {"description": "Contracts.", "data": "departments/hr.jsonl"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Project:
    """A company whose HR has an expert, and one of legal, which the file does not name yet."""
    project = write_project(tmp_path_factory.mktemp("reload") / "company", tiny_base)
    make_expert(project)
    change(project, lambda config: config["departments"].update(legal=LEGAL))
    make_expert(Project.load(project.root), "legal")
    change(project, lambda config: config["departments"].pop("legal"))
    return project


@pytest.fixture
def company(template: Project, tmp_path: Path) -> Project:
    """A copy of it with a file and a registry of its own."""
    root = tmp_path / "company"
    root.mkdir()
    for name in ("quintet.yaml", "quintet.db"):
        (root / name).write_bytes((template.root / name).read_bytes())
    (root / "runs").symlink_to(template.root / "runs")
    return Project.load(root)


def change(project: Project, edit: Callable[[dict[str, Any]], object]) -> None:
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    edit(values)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def talk(app: FastAPI, talking: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]], key: str = "") -> None:
    async def connected() -> None:
        headers = {"X-API-Key": key} if key else {}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://q", headers=headers) as client:
            await talking(client)

    asyncio.run(connected())


def test_a_new_department_answers_a_changed_one_is_shown_and_a_removed_one_is_gone(company: Project) -> None:
    async def talking(client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/legal", json=QUERY)).status_code == 404
        change(company, lambda config: config["departments"].pop("finance"))
        change(company, lambda config: config["departments"].update(legal=LEGAL))
        change(company, lambda config: config["departments"]["hr"].update(description="All of it."))
        assert [one["name"] for one in (await client.get("/api/models")).json()["models"]] == ["hr", "finance"]
        told = (await client.post("/admin/reload")).json()
        assert told == {"added": ["legal"], "changed": ["hr"], "removed": ["finance"], "needs_restart": []}
        listed = (await client.get("/api/models")).json()["models"]
        assert [(one["name"], one["description"]) for one in listed] == [("hr", "All of it."), ("legal", "Contracts.")]
        assert (await client.post("/api/legal", json=QUERY)).json()["expert"] == "legal@1"
        gone = (await client.post("/api/finance", json=QUERY)).json()["error"]
        assert gone["code"] == "model_not_found"

    talk(create_app(company, ScriptedEngine(ANSWER)), talking)


def test_the_numbers_of_a_new_department_begin_at_zero(company: Project) -> None:
    async def talking(client: httpx.AsyncClient) -> None:
        assert 'department="legal"' not in (await client.get("/metrics")).text
        change(company, lambda config: config["departments"].update(legal=LEGAL))
        await client.post("/admin/reload")
        text = (await client.get("/metrics")).text
        assert text.count('department="legal"') == text.count('department="hr"') > 10

    talk(create_app(company, ScriptedEngine(ANSWER)), talking)


def test_a_bad_file_is_refused_with_its_lines_and_the_old_one_stays(company: Project) -> None:
    async def talking(client: httpx.AsyncClient) -> None:
        change(company, lambda config: config["departments"].update(legal=LEGAL | {"dta": "x"}))
        refused = await client.post("/admin/reload")
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (409, "config_refused")
        assert "quintet.yaml:15: departments.legal.dta: unknown key; did you mean 'data'?" in error["message"]
        assert (await client.post("/api/hr", json=QUERY)).status_code == 200
        assert (await client.post("/api/legal", json=QUERY)).status_code == 404

    talk(create_app(company, ScriptedEngine(ANSWER)), talking)
    assert search_acts(company, act="reload") == []


def test_what_needs_a_restart_is_named_and_left_as_it_is(company: Project) -> None:
    async def talking(client: httpx.AsyncClient) -> None:
        change(company, lambda config: config.update(base_model="elsewhere", company="Other"))
        change(company, lambda config: config.update(serving={"port": 9, "max_queue": 3}))
        told = (await client.post("/admin/reload")).json()
        assert told["needs_restart"] == ["company", "base_model", "serving.port", "serving.max_queue"]
        assert (await client.get("/")).json()["company"] == "Tiny"
        assert (await client.post("/api/infer/base", json=QUERY)).status_code == 200
        assert (await client.post("/admin/reload")).json() == told

    talk(create_app(company, ScriptedEngine(ANSWER)), talking)


def test_only_an_administrator_reloads_and_it_is_noted_who_did(company: Project) -> None:
    _, asks = create_key(company, departments=["*"])
    admin, administers = create_key(company, roles=["admin"])
    app = create_app(company, ScriptedEngine(ANSWER))

    async def refused(client: httpx.AsyncClient) -> None:
        assert (await client.post("/admin/reload")).status_code == 403

    async def allowed(client: httpx.AsyncClient) -> None:
        change(company, lambda config: config["departments"].update(legal=LEGAL))
        assert (await client.post("/admin/reload")).status_code == 200

    talk(app, refused, asks)
    talk(app, allowed, administers)
    (act,) = search_acts(company, act="reload")
    assert (act.who, act.details["added"]) == (f"key {admin.id}", ["legal"])


def test_an_answer_that_has_begun_ends_though_its_department_is_gone(company: Project) -> None:
    engine = ScriptedEngine([*[Token(40)] * 5, Token(None, "stop")], pause=0.02)

    async def talking(client: httpx.AsyncClient) -> None:
        asked = asyncio.create_task(client.post("/api/hr", json=QUERY))
        while not engine.running:
            await asyncio.sleep(0)
        change(company, lambda config: config["departments"].pop("hr"))
        assert (await client.post("/admin/reload")).json()["removed"] == ["hr"]
        assert (await client.post("/api/hr", json=QUERY)).status_code == 404
        assert not asked.done()
        assert (await asked).json()["expert"] == "hr@1"

    talk(create_app(company, engine), talking)


def test_no_request_fails_while_departments_come_and_go(company: Project) -> None:
    async def talking(client: httpx.AsyncClient) -> None:
        async def ask() -> list[int]:
            return [(await client.post("/api/hr", json=QUERY)).status_code for _ in range(10)]

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for add in (True, False) * 3:
            change(company, lambda config: config["departments"].pop("legal", None))
            if add:
                change(company, lambda config: config["departments"].update(legal=LEGAL))
            assert (await client.post("/admin/reload")).status_code == 200
        assert {status for of_one in await asyncio.gather(*asking) for status in of_one} == {200}

    talk(create_app(company, ScriptedEngine(ANSWER)), talking)
