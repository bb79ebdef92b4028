"""The departments as tools: the protocol's own client, over a real server."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.errors import BusyError
from quintet.registry.budgets import parse_budget
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from tests.served import ScriptedEngine, Serve
from tests.server.test_serving import wait_for

httpx2 = pytest.importorskip("httpx2")
mcp = pytest.importorskip("mcp")

from mcp.client.client import Client  # noqa: E402
from mcp.client.streamable_http import streamable_http_client  # noqa: E402
from mcp.shared.exceptions import MCPError  # noqa: E402

ANSWER: list[Token | Exception] = [Token(40), Token(41), Token(None, "stop")]
LEAVE, NEITHER = "How much leave is there?", "Why is the sky blue?"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
SENT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def open_address(routed: Project, serve: Serve) -> Iterator[str]:
    with serve(create_app(routed, ScriptedEngine(ANSWER))) as url:
        yield url


@pytest.fixture(scope="module")
def kept_address(routed_by_key: Project, serve: Serve) -> Iterator[str]:
    with serve(create_app(routed_by_key, ScriptedEngine(ANSWER))) as url:
        yield url


@asynccontextmanager
async def connected(address: str, key: str | None = None, mode: str = "auto") -> AsyncGenerator[Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def call(address: str, tool: str, key: str | None = None, mode: str = "auto", **arguments: Any) -> Any:
    async def run() -> Any:
        async with connected(address, key, mode) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(run())


def tools(address: str, key: str | None = None, mode: str = "auto") -> dict[str, str]:
    async def run() -> Any:
        async with connected(address, key, mode) as client:
            return (await client.list_tools()).tools

    return {tool.name: tool.description for tool in asyncio.run(run())}


def key(project: Project, *departments: str, **more: Any) -> str:
    return create_key(project, departments=departments, **more)[1]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_every_department_is_a_tool_and_so_is_finding_it(open_address: str, mode: str) -> None:
    assert tools(open_address, mode=mode) == {
        "hr": "Ask hr: Answers hr questions.",
        "finance": "Ask finance: Answers finance questions.",
        "route": "Ask whichever department the question is for.",
    }


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_tool_answers_as_its_department_does(open_address: str, mode: str) -> None:
    result = call(open_address, "hr", mode=mode, question=LEAVE)
    assert not result.is_error
    answer = httpx.post(f"{open_address}/api/hr", json={"query": LEAVE, "temperature": 0}).json()
    assert result.content[0].text == result.structured_content["response"] == answer["response"]
    assert result.structured_content["expert"] == "hr@1"


def test_route_finds_the_department(open_address: str) -> None:
    found = call(open_address, "route", question=LEAVE).structured_content
    assert (found["department"], found["expert"], found["runner_up"]["department"]) == ("hr", "hr@1", "finance")
    assert "Please choose one" in call(open_address, "route", question=NEITHER).content[0].text


def test_without_a_router_there_is_no_finding(company: Project, serve: Serve) -> None:
    with serve(create_app(company, ScriptedEngine(ANSWER))) as url:
        assert list(tools(url)) == ["hr", "finance"]
        assert "no expert yet" in call(url, "finance", question=LEAVE).content[0].text


@pytest.mark.parametrize("arguments", [{}, {"question": " "}, {"question": "Who?", "max_tokens": 0}, {"query": "Who?"}])
def test_arguments_that_are_none_are_told_to_the_assistant(open_address: str, arguments: dict[str, Any]) -> None:
    result = call(open_address, "hr", **arguments)
    assert result.is_error
    assert result.content[0].text.startswith(("question: ", "max_tokens: "))


def test_the_example_of_the_documentation_runs(open_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text("utf-8")
    example = page.split("```python\n")[1].split("```")[0]
    exec(example.replace("http://127.0.0.1:8000", open_address), {})
    assert capsys.readouterr().out.startswith("['hr', 'finance', 'route']\n")


class TestKeys:
    def test_a_key_has_the_tools_of_its_departments(self, kept_address: str, routed_by_key: Project) -> None:
        assert list(tools(kept_address, key(routed_by_key, "finance"))) == ["finance", "route"]
        assert list(tools(kept_address, key(routed_by_key, "base"))) == []

    def test_anothers_tool_is_as_one_that_nobody_has(self, kept_address: str, routed_by_key: Project) -> None:
        async def refused(name: str) -> tuple[int, str]:
            async with connected(kept_address, key(routed_by_key, "finance")) as client:
                with pytest.raises(MCPError) as raised:
                    await client.call_tool(name, {"question": LEAVE})
            return raised.value.code, raised.value.message.replace(name, "")

        assert asyncio.run(refused("hr")) == asyncio.run(refused("xy"))

    @pytest.mark.parametrize(("roles", "status"), [(None, 401), (("admin",), 403)])
    def test_without_a_key_that_may_ask_there_is_nothing(
        self, kept_address: str, routed_by_key: Project, roles: Any, status: int
    ) -> None:
        secret = create_key(routed_by_key, roles=roles)[1] if roles else ""
        response = httpx.post(f"{kept_address}/mcp", json=LIST, headers=SENT | {"X-API-Key": secret})
        assert response.status_code == status

    def test_a_call_is_on_the_keys_budget_and_a_list_is_not(self, kept_address: str, routed_by_key: Project) -> None:
        secret = key(routed_by_key, "hr", budgets=[parse_budget("1 requests/day")])
        tools(kept_address, secret)
        assert not call(kept_address, "hr", secret, question=LEAVE).is_error
        refused = call(kept_address, "hr", secret, question=LEAVE)
        assert refused.is_error
        assert "this key may use 1 requests/day" in refused.content[0].text


def test_what_goes_wrong_is_told_without_what_is_inside(routed: Project, serve: Serve) -> None:
    failures: dict[Exception, str] = {BusyError("the queue is full"): "the queue is full",
                                      RuntimeError("secret"): "something went wrong on the server"}  # fmt: skip
    for failure, said in failures.items():
        with serve(create_app(routed, ScriptedEngine([failure]))) as url:
            result = call(url, "hr", question=LEAVE)
        assert result.is_error
        assert said in result.content[0].text
        assert "secret" not in result.content[0].text


def test_a_client_that_leaves_frees_the_engine(routed: Project, serve: Serve) -> None:
    engine = ScriptedEngine([Token(40)] * 10_000, pause=0.005)

    async def leave(address: str) -> None:
        async with connected(address) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.call_tool("hr", {"question": LEAVE, "max_tokens": 4000})

    with serve(create_app(routed, engine)) as url:
        asyncio.run(leave(url))
        wait_for(lambda: engine.running == 0)
        assert (len(engine.requests), engine.closed) == (1, 1)


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 200), ("http://127.0.0.1", 200)],
)
def test_a_page_of_another_origin_may_not_ask(open_address: str, origin: str, status: int) -> None:
    response = httpx.post(f"{open_address}/mcp", json=LIST, headers=SENT | {"Origin": origin})
    assert response.status_code == status


def test_there_is_nothing_to_get_and_no_session_to_end(open_address: str) -> None:
    assert [httpx.request(method, f"{open_address}/mcp").status_code for method in ("GET", "DELETE")] == [405, 405]


def test_without_the_library_the_way_to_it_is_named(open_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.streamable_http_manager", None)
    response = httpx.post(f"{open_address}/mcp", json=LIST, headers=SENT)
    assert "pip install 'quintet[mcp]'" in response.json()["error"]["message"]
