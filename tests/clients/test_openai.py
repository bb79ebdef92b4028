import asyncio
from typing import Any

import pytest

from quintet.clients.openai import Endpoint, without_thoughts, work_through
from quintet.config.endpoint import EndpointSettings
from quintet.errors import ConfigError, EndpointError
from tests.fake_endpoint import FakeEndpoint, Reply, refuses, says


def ask(url: str, key: str | None = None) -> str:
    async def run() -> str:
        async with Endpoint(EndpointSettings(url, "big", key, "MY_KEY", "judge")) as endpoint:
            return await endpoint.ask("Be fair.", "Which?")

    return asyncio.run(run())


@pytest.mark.parametrize(
    "given", ["https://host/v1", "https://host/v1/embeddings", "https://host/v1/chat/completions/"]
)
def test_both_routes_are_found_from_either(given: str) -> None:
    settings = EndpointSettings(given, "big")
    assert settings.chat_url == "https://host/v1/chat/completions"
    assert settings.embeddings_url == "https://host/v1/embeddings"


def test_an_answer_comes_back_as_it_is(endpoint: FakeEndpoint) -> None:
    endpoint.answers_in_turn(says("<think>Hm.</think> So."))
    assert ask(endpoint.url) == "<think>Hm.</think> So."


@pytest.mark.parametrize(
    "reply",
    [
        refuses(401, "no: hush"),
        refuses(404, "hush"),
        refuses(429, "hush", Retry_After="3600"),
        Reply("", 301, {"Location": "https://other/v1?code=hush"}),
        Reply("hush " * 3),
        refuses(418, "x" * 298 + "hush"),
    ],
)
def test_no_error_shows_the_key_or_the_urls_query(endpoint: FakeEndpoint, reply: Reply) -> None:
    endpoint.answer = lambda body: reply
    with pytest.raises(EndpointError, match="/v1/chat/completions answered") as caught:
        ask(f"{endpoint.url}?code=hush", "hush")
    assert "hu" not in str(caught.value)


def test_a_query_is_not_shown_with_a_refused_url() -> None:
    with pytest.raises(ConfigError, match="the model's URL 'host/v1' is none") as caught:
        EndpointSettings("host/v1?code=hush", "big")
    assert "hush" not in str(caught.value)


def test_neither_key_nor_query_is_shown_with_the_settings() -> None:
    settings = EndpointSettings("https://host/v1?code=hush", "big", "secret")
    assert settings.shown_url == "https://host/v1"
    assert not any(word in repr(settings) for word in ("hush", "secret"))


@pytest.mark.parametrize(
    ("answer", "aloud"),
    [
        ("So.", "So."),
        ("<think>Hm.</think>\nSo.", "So."),
        ("<THINKING>Hm.</THINKING> So. <think>Done.</think>", "So."),
        ("Hm.</think>So.", "So."),
        ("<think>never ended", ""),
        ("I think so.", "I think so."),
    ],
)
def test_thoughts_are_taken_out(answer: str, aloud: str) -> None:
    assert without_thoughts(answer) == aloud


def test_who_is_stopped_at_the_moment_of_connecting_asks_nothing(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answer = lambda body: says("Too late.")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def connect_and_be_stopped(*args: Any, **options: Any) -> Any:
            connection = await connect(*args, **options)
            loop.call_soon(asking.cancel)
            return connection

        monkeypatch.setattr(loop, "create_connection", connect_and_be_stopped)
        async with Endpoint(EndpointSettings(endpoint.url, "big")) as client:
            asking = asyncio.create_task(client.ask("Be fair.", "Which?"))
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(run())
    assert endpoint.bodies == []


def test_the_first_error_stops_the_work_and_is_raised_as_it_is() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        if item == 3:
            raise EndpointError("three")
        done.append(item)

    with pytest.raises(EndpointError, match=r"^three$"):
        asyncio.run(work_through(range(100), work, 2))
    assert len(done) < 10


def test_the_work_is_done_once_for_each_item() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)

    asyncio.run(work_through(range(10), work, 3))
    assert sorted(done) == list(range(10))
