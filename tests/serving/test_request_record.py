"""Each request has an id, in its answer and in every line that is logged of it; and one line of its own."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from quintet.config import LogFormat, Project
from quintet.engine.interface import Token
from quintet.errors import BusyError, ModelError
from quintet.server.app import create_app
from quintet.serving.observability.logs import configure_logs
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine

ANSWER: list[Token | Exception] = [Token(40), Token(41), Token(None, "stop")]
SECRET = "my salary is 93000"
Log = Callable[[], str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Project:
    project = write_project(tmp_path_factory.mktemp("recorded") / "company", tiny_base)
    make_expert(project)
    return project


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Log]:
    """What is written to standard error, once a test has configured the logs."""
    root, quintet = logging.root, logging.getLogger("quintet")
    before = (root.handlers, root.level, quintet.level)
    yield lambda: capsys.readouterr().err
    root.handlers, quintet.level = before[0], before[2]
    root.setLevel(before[1])


def send(app: FastAPI, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    async def send_it() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quintet") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, json=body, headers=named)

    return asyncio.run(send_it())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("POST", "/api/hr", 422), ("GET", "/no/such", 404), ("PUT", "/api/models", 405)],
)
def test_every_answer_names_its_request(served: Project, method: str, path: str, status: int) -> None:
    answer = send(create_app(served, ScriptedEngine([])), method, path)
    assert answer.status_code == status
    assert answer.headers["x-request-id"].startswith("req_")


def test_so_does_the_answer_to_what_nobody_expected(served: Project) -> None:
    answer = send(create_app(served, ScriptedEngine([ZeroDivisionError()])), "POST", "/api/hr", {"query": "Hello?"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"].startswith("req_")


def test_no_two_requests_have_the_same_id(served: Project) -> None:
    app = create_app(served, ScriptedEngine([]))
    assert len({send(app, "GET", "/health").headers["x-request-id"] for _ in range(5)}) == 5


def test_a_client_may_bring_an_id(served: Project) -> None:
    answer = send(create_app(served, ScriptedEngine([])), "GET", "/health", x_request_id="2f1d-7.a:b_9")
    assert answer.headers["x-request-id"] == "2f1d-7.a:b_9"


@pytest.mark.parametrize("brought", ["", "two words", 'quote"', "a" * 129, "{json}"])
def test_an_id_that_does_not_fit_into_a_log_line_is_not_taken(served: Project, brought: str) -> None:
    answer = send(create_app(served, ScriptedEngine([])), "GET", "/health", x_request_id=brought)
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_request_is_one_line_of_json(served: Project, log: Log) -> None:
    configure_logs("json")
    app = create_app(served, ScriptedEngine(ANSWER, pause=0.01))
    answer = send(app, "POST", "/api/hr?verbose=yes", {"query": SECRET}, x_request_id="a1")
    written = log()
    (line,) = lines(written)
    assert (line["request_id"], line["method"], line["route"]) == ("a1", "POST", "/api/{department}")
    assert (line["department"], line["model"], line["status"], line["error"]) == ("hr", "hr@1", 200, None)
    assert line["completion_tokens"] == 2
    assert line["prompt_tokens"] > 0
    assert 20 <= line["duration_ms"] < 5000
    assert line["queue_ms"] <= line["first_token_ms"] <= line["duration_ms"]
    assert answer.json()["response"] not in written
    assert SECRET not in written


def test_the_line_of_a_refusal_says_why(served: Project, log: Log) -> None:
    configure_logs("json")
    send(create_app(served, ScriptedEngine([BusyError("full")])), "POST", "/api/hr", {"query": "Hello?"})
    (line,) = lines(log())
    assert (line["status"], line["error"], line["department"]) == (429, "queue_full", "hr")


def test_what_somebody_made_up_is_in_no_line(served: Project, log: Log) -> None:
    configure_logs("json")
    app = create_app(served, ScriptedEngine([]))
    send(app, "GET", "/salary-93000")
    send(app, "POST", "/api/salary-93000", {"query": "Hello?"}, x_api_key="qk_salary-93000")
    written = log()
    assert [line["route"] for line in lines(written)] == [None, "/api/{department}"]
    assert "93000" not in written


def test_every_line_of_a_request_carries_its_id(served: Project, log: Log) -> None:
    configure_logs("json")
    app = create_app(served, ScriptedEngine([ModelError("no such layer")]))
    send(app, "POST", "/api/hr", {"query": "Hello?"}, x_request_id="a2")
    assert [(line["level"], line["request_id"]) for line in lines(log())] == [("error", "a2"), ("info", "a2")]


def test_a_traceback_stays_in_its_line(served: Project, log: Log) -> None:
    configure_logs("json")
    send(create_app(served, ScriptedEngine([ZeroDivisionError("x")])), "POST", "/api/hr", {"query": "Hello?"})
    first, _ = lines(log())
    assert "ZeroDivisionError: x" in first["exception"]


def test_of_two_requests_at_once_each_line_has_its_own_id(served: Project, log: Log) -> None:
    configure_logs("json")
    app = create_app(served, ScriptedEngine(ANSWER, pause=0.01))

    async def send_both() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quintet") as client:
            await asyncio.gather(
                *(client.post("/api/hr", json={"query": "?", "max_tokens": n}, headers={"x-request-id": f"n{n}"})
                  for n in (1, 2))
            )  # fmt: skip

    asyncio.run(send_both())
    assert sorted((line["request_id"], line["completion_tokens"]) for line in lines(log())) == [("n1", 1), ("n2", 2)]


def test_a_stream_is_logged_when_it_has_ended(served: Project, log: Log) -> None:
    configure_logs("json")
    chat = {"model": "hr", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
    send(create_app(served, ScriptedEngine(ANSWER, pause=0.01)), "POST", "/v1/chat/completions", chat)
    (line,) = lines(log())
    assert (line["route"], line["completion_tokens"]) == ("/v1/chat/completions", 2)
    assert line["duration_ms"] >= 20


@pytest.mark.parametrize(("style", "start"), [("text", "20"), ("json", "{")])
def test_lines_are_text_or_json(served: Project, log: Log, style: LogFormat, start: str) -> None:
    configure_logs(style)
    send(create_app(served, ScriptedEngine(ANSWER)), "POST", "/api/hr", {"query": "Hello?"}, x_request_id="a3")
    (line,) = log().splitlines()
    assert line.startswith(start)
    assert "a3" in line
    assert "POST /api/{department} 200" in line
