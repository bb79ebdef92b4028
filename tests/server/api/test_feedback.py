"""Feedback goes to the version that gave the answer; what a key may not ask about is as unknown as what never was."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.errors import BusyError
from quintet.registry.feedback import count_feedback, find_kept, rated
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from quintet.serving import answer_log
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine

ANSWER: list[Token | Exception] = [Token(40), Token(41), Token(None, "stop")]
QUESTION = "When is pay day?"


@pytest.fixture
def company(tmp_path: Path, tiny_base: Path, make_expert: MakeExpert) -> Project:
    project = write_project(tmp_path / "company", tiny_base)
    for name in ("hr", "finance"):
        make_expert(project, name)
    return project


def keeping(project: Project) -> Project:
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["departments"]["hr"]["keep_requests"] = "30d"
    path.write_text(yaml.safe_dump(values))
    return Project.load(project.root)


class Client:
    """Sends requests to an application without a network, one after the other."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def send(self, path: str, body: object, **headers: str) -> httpx.Response:
        async def send_it() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://quintet") as client:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                response = await client.post(path, json=body, headers=named)
                await self._app.state.services.answers.settle()  # what is kept, is kept meanwhile
                return response

        return asyncio.run(send_it())

    def ask(self, department: str = "hr", **headers: str) -> str:
        """Return the id of a request that was answer_log."""
        return self.send(f"/api/{department}", {"query": QUESTION}, **headers).headers["x-request-id"]

    def rate(self, request_id: str, rating: str = "up", **more: Any) -> httpx.Response:
        headers = {name: more.pop(name) for name in list(more) if name.startswith("x_")}
        return self.send("/api/feedback", {"request_id": request_id, "rating": rating, **more}, **headers)


def client(project: Project, script: list[Token | Exception] = ANSWER) -> Client:
    return Client(create_app(project, ScriptedEngine(script)))


def test_feedback_is_counted_for_the_version_that_answered(company: Project) -> None:
    server = client(company)
    answer = server.rate(server.ask(), "down")
    assert answer.status_code == 200
    assert answer.json() | {"request_id": ""} == {"request_id": "", "model": "hr@1", "rating": "down", "kept": False}
    assert count_feedback(company, "hr") == {"hr@1": (0, 1)}


def test_the_bare_base_can_be_rated_too(company: Project) -> None:
    server = client(company)
    asked = server.send("/api/infer/base", {"query": QUESTION})
    assert server.rate(asked.headers["x-request-id"]).json()["model"] == "base"
    assert count_feedback(company, "base") == {"base": (1, 0)}


def test_a_stream_can_be_rated(company: Project) -> None:
    server = client(keeping(company))
    chat = {"model": "hr", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    asked = server.send("/v1/chat/completions", chat).headers["x-request-id"]
    assert server.rate(asked).json()["kept"]
    assert rated(keeping(company), "hr")[0].prompt[0].content == QUESTION


def test_what_nobody_keeps_is_not_in_the_registry(company: Project) -> None:
    server = client(company)
    server.rate(server.ask(), "down", better_answer="On the 27th, always.")
    written = b"".join(path.read_bytes() for path in company.root.glob("quintet.db*"))
    assert b"hr" in written
    assert QUESTION.encode() not in written
    assert b"On the 27th, always." not in written


def test_a_department_that_keeps_requests_has_them_with_their_feedback(company: Project) -> None:
    kept = keeping(company)
    server = client(kept)
    asked = server.send("/api/hr", {"query": QUESTION})
    other = server.ask("finance")
    assert server.rate(asked.headers["x-request-id"], "down", better_answer="On the 27th.", comment="Wrong").json()[
        "kept"
    ]
    assert not server.rate(other).json()["kept"]
    (found,) = rated(kept, "hr")
    assert found.prompt[0].content == QUESTION
    assert found.answer == asked.json()["response"]
    assert (found.opinion.better_answer, found.opinion.comment, found.answered.version) == ("On the 27th.", "Wrong", 1)


def test_what_is_kept_can_be_rated_at_another_server(company: Project) -> None:
    kept = keeping(company)
    asked = client(kept).ask()
    assert client(kept).rate(asked).json()["model"] == "hr@1"


def test_what_is_not_kept_is_known_to_the_server_that_answered_alone(company: Project) -> None:
    asked = client(company).ask()
    assert client(company).rate(asked).status_code == 404


def test_what_a_key_may_not_ask_about_is_as_unknown_as_what_never_was(company: Project) -> None:
    kept = keeping(company)
    server = client(kept)
    _, hr = create_key(kept, departments=["hr"])
    _, finance = create_key(kept, departments=["finance"])
    mine = server.ask(x_api_key=hr)
    other = client(kept)
    for one in (server, other):
        hidden, unknown = one.rate(mine, x_api_key=finance), one.rate(f"req_{'0' * 24}", x_api_key=finance)
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.text.replace(mine, "ID") == unknown.text.replace(f"req_{'0' * 24}", "ID")
    assert server.rate(mine, x_api_key=hr).status_code == 200


def test_two_departments_with_the_same_id_do_not_meet(company: Project) -> None:
    server = client(company)
    _, hr = create_key(company, departments=["hr"])
    _, finance = create_key(company, departments=["finance"])
    server.ask(x_api_key=hr, x_request_id="same")
    server.ask("finance", x_api_key=finance, x_request_id="same")
    assert server.rate("same", x_api_key=hr).json()["model"] == "hr@1"
    assert server.rate("same", x_api_key=finance).json()["model"] == "finance@1"


def test_an_administrator_who_may_not_ask_gives_no_feedback(company: Project) -> None:
    _, admin = create_key(company, roles=["admin"])
    assert client(company).rate("r1", x_api_key=admin).status_code == 403


def test_a_refused_request_has_nothing_to_rate(company: Project) -> None:
    server = client(company, [BusyError("full")])
    assert server.rate(server.ask()).status_code == 404


def test_one_departments_flood_pushes_out_no_other(company: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_log, "RECENT", 2)
    server = client(company)
    first, *_ = [server.ask("finance") for _ in range(3)]
    mine = server.ask("hr")
    for _ in range(3):
        server.ask("finance")
    assert server.rate(first).status_code == 404
    assert server.rate(mine).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"request_id": "r1"},
        {"request_id": "r1", "rating": "five stars"},
        {"request_id": "a b", "rating": "up"},
        {"request_id": "r1", "rating": "up", "comment": "x" * 2001},
        {"request_id": "r1", "rating": "up", "better_answer": "  "},
        {"request_id": "r1", "rating": "up", "version": 2},
    ],
)
def test_what_is_no_feedback_is_refused(company: Project, body: dict[str, str]) -> None:
    assert client(company).send("/api/feedback", body).status_code == 422


def test_an_answer_that_was_cut_off_is_not_kept(company: Project) -> None:
    kept = keeping(company)
    server = client(kept, [Token(40), BusyError("gone")])
    assert find_kept(kept, server.ask(), ["hr"]) is None


def test_what_may_not_be_kept_is_deleted_when_the_server_starts(company: Project) -> None:
    asked = client(keeping(company)).ask()
    app = create_app(company, ScriptedEngine(ANSWER))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0.3)

    asyncio.run(start())
    assert find_kept(keeping(company), asked, ["hr"]) is None
