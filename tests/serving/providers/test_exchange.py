"""One question to a provider that misbehaves: a real server, and waits that take no time."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from quintet.config import ProviderConfig
from quintet.errors import RequestError
from quintet.serving.answer import Call, Piece
from quintet.serving.providers.client import Provider
from quintet.serving.providers.errors import AttemptError, Reason, UnansweredError
from quintet.serving.providers.request import Asked
from quintet.serving.providers.retries import Patience, ProviderExchange
from tests.fake_endpoint import (
    CUT,
    HANG,
    FakeEndpoint,
    HangupError,
    Reply,
    SilenceError,
    Stream,
    event,
    refuses,
    says,
    says_part,
    streams,
)

ASKED = Asked("chat", {"messages": [{"role": "user", "content": "Leave?"}]}, 2, 20)


class Asker:
    """Asks the endpoint, and remembers what came, what was waited for, and what failed."""

    def __init__(self, endpoint: FakeEndpoint, **config: Any) -> None:
        values = {"first_timeout": 5, "chunk_timeout": 5, "timeout": 10} | config
        self.config = ProviderConfig(url=endpoint.url, model="big", **values)
        self.pieces: list[Piece] = []
        self.waits: list[float] = []
        self.failures: list[Reason] = []
        self.tokens: tuple[int | None, int] = (None, 0)

    def __call__(self, asked: Asked = ASKED, times: int = 1) -> str:
        asyncio.run(self._ask(asked, times))
        return "".join(piece.text for piece in self.pieces)

    async def _ask(self, asked: Asked, times: int) -> None:
        provider = Provider("cloud", self.config)
        patience = Patience(self._wait, chance=lambda: 1.0)
        try:
            for _ in range(times):
                exchange = ProviderExchange(provider, asked, self.failures.append, patience)
                async with aclosing(exchange.pieces()) as pieces:
                    async for piece in pieces:
                        self.pieces.append(piece)
                usage = exchange.reading.usage
                self.tokens = (usage.prompt_tokens if usage else None, exchange.reading.completion_tokens)
        finally:
            await provider.close()

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def asker(endpoint: FakeEndpoint) -> Callable[..., Asker]:
    return lambda **config: Asker(endpoint, **config)


Make = Callable[..., Asker]


def test_an_answer_comes_as_it_is_streamed(endpoint: FakeEndpoint, asker: Make) -> None:
    endpoint.answers_in_turn(streams("You get ", "26 days.", usage=(9, 6)))
    ask = asker()
    assert ask() == "You get 26 days."
    assert [piece.finish_reason for piece in ask.pieces] == [None, None, "stop"]
    assert ask.tokens == (9, 6)
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.bodies[0] == ASKED.fields | {
        "model": "big", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 20,
    }  # fmt: skip


def test_tokens_are_estimated_where_they_are_not_told(endpoint: FakeEndpoint, asker: Make) -> None:
    endpoint.answers_in_turn(streams("You get 26 days."))
    ask = asker()
    ask()
    assert ask.tokens == (None, 4)


def test_who_cannot_stream_answers_whole(endpoint: FakeEndpoint, asker: Make) -> None:
    whole = says("26 days.")
    whole.headers["Content-Type"] = "application/json"
    endpoint.answers_in_turn(whole)
    ask = asker()
    assert ask() == "26 days."
    assert ask.pieces[-1].finish_reason == "stop"


def test_calls_are_put_together(endpoint: FakeEndpoint, asker: Make) -> None:
    parts: list[dict[str, Any]] = [
        {"index": 0, "id": "call_1", "function": {"name": "days", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"who": '}},
        {"index": 1, "id": "call_2", "function": {"name": "pay", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": '"me"}'}},
    ]
    chunks = [event({"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]}) for part in parts]
    end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    endpoint.answers_in_turn(Stream([*chunks, end]))
    ask = asker()
    ask()
    assert ask.pieces == [Piece(0, "", (), (Call("days", '{"who": "me"}'), Call("pay", "{}")), "stop")]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([refuses(429, "slow down"), refuses(503, "full")], "busy"),
        ([refuses(500, "oops"), refuses(502, "oops")], "refused"),
        ([HangupError, HangupError], "unreachable"),
        ([Stream([CUT]), Stream([": ping\n\n", CUT])], "cut"),
        ([Stream([]), Stream(['data: {"choices": []}\n\n'])], "cut"),
    ],
)
def test_what_may_end_better_is_tried_again_after_longer_and_longer_waits(
    endpoint: FakeEndpoint, asker: Make, replies: list[Any], reason: str
) -> None:
    endpoint.answers_in_turn(*replies, streams("At last."))
    ask = asker()
    assert ask() == "At last."
    assert ask.waits == [0.5, 1.0]
    assert ask.failures == [reason, reason]


def test_as_often_as_the_config_says_and_no_more(endpoint: FakeEndpoint, asker: Make) -> None:
    endpoint.answer = lambda body: refuses(500, "oops")
    ask = asker(retries=1)
    with pytest.raises(AttemptError, match=r"^answered 500$"):
        ask()
    assert len(endpoint.bodies) == 2


def test_retry_after_is_heeded(endpoint: FakeEndpoint, asker: Make) -> None:
    endpoint.answers_in_turn(refuses(429, "slow down", Retry_After="3"), streams("At last."))
    ask = asker()
    assert ask() == "At last."
    assert ask.waits == [3.5]


@pytest.mark.parametrize("config", [{}, {"timeout": 3}])
def test_who_asks_to_be_left_alone_for_longer_than_there_is_time_is_not_waited_for(
    endpoint: FakeEndpoint, asker: Make, config: dict[str, Any]
) -> None:
    endpoint.answers_in_turn(refuses(429, "slow down", Retry_After="4" if config else "60"))
    ask = asker(**config)
    with pytest.raises(AttemptError) as caught:
        ask()
    assert caught.value.retry_after == (4 if config else 60)
    assert not ask.waits


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (refuses(401, "no"), "does not let this server in"),
        (refuses(404, "no such model"), "answered 404"),
        (Reply("", 301, {"Location": "https://other/v1"}), "answered 301"),
        (Reply("<html>", headers={"Content-Type": "text/html"}), "answered with what is no answer"),
        (Stream(["data: {not JSON\n\n"]), "answered with what is no answer"),
        (Stream([event({"choices": [{"index": 4, "delta": {"content": "?"}}]})]), "answered with what is no answer"),
        (Stream([event({"error": {"message": "oops"}})]), "broke off with an error"),
    ],
)
def test_what_will_not_end_better_is_not_tried_again(
    endpoint: FakeEndpoint, asker: Make, reply: Reply | Stream, says: str
) -> None:
    endpoint.answers_in_turn(reply)
    with pytest.raises(AttemptError, match=f"^{says}$"):
        asker()()


@pytest.mark.parametrize("end", [[CUT], [], ["data: {oops\n\n"]])
def test_nothing_is_tried_again_once_something_was_passed_on(
    endpoint: FakeEndpoint, asker: Make, end: list[object]
) -> None:
    endpoint.answers_in_turn(Stream([says_part("You get "), *end]))
    ask = asker()
    with pytest.raises(AttemptError):
        ask()
    assert [piece.text for piece in ask.pieces] == ["You get "]
    assert not ask.waits


@pytest.mark.parametrize(
    ("reply", "limits", "says"),
    [
        (SilenceError, {"first_timeout": 0.05}, "took longer than 0.05 s to begin"),
        (Stream([says_part("You"), HANG]), {"chunk_timeout": 0.05}, "fell silent for 0.05 s"),
        (Stream([": ping\n\n"] * 3 + [HANG]), {"timeout": 0.1}, "took longer than 0.1 s"),
        (SilenceError, {"timeout": 0.05}, "took longer than 0.05 s"),
    ],
)
def test_nobody_waits_for_longer_than_the_config_says(
    endpoint: FakeEndpoint, asker: Make, reply: Any, limits: dict[str, float], says: str
) -> None:
    endpoint.answers_in_turn(reply)
    ask = asker(retries=0, **limits)
    with pytest.raises(AttemptError, match=f"^{says}$"):
        ask()
    assert ask.failures == ["timeout"]


def test_a_trickle_does_not_outlast_the_limit_of_the_whole(endpoint: FakeEndpoint, asker: Make) -> None:
    def trickle() -> Any:
        while True:
            yield says_part("a")

    endpoint.answers_in_turn(Stream(trickle()))
    with pytest.raises(AttemptError, match=r"^took longer than 0\.1 s$"):
        asker(timeout=0.1)()


def test_what_the_provider_refuses_is_the_askers_to_mend(endpoint: FakeEndpoint, asker: Make) -> None:
    endpoint.answers_in_turn(refuses(400, "temperature: at most 1"))
    ask = asker()
    with pytest.raises(RequestError, match="the provider 'cloud' refuses the request: temperature: at most 1"):
        ask()
    assert not ask.failures


@pytest.mark.parametrize(
    ("message", "now"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_completion_tokens"),
        ("stream_options: unknown field", "max_tokens"),
    ],
)
def test_a_word_that_it_does_not_know_is_not_sent_again(
    endpoint: FakeEndpoint, asker: Make, message: str, now: str
) -> None:
    endpoint.answers_in_turn(refuses(400, message), streams("Fine."), streams("Fine."))
    ask = asker()
    ask(times=2)
    assert [("stream_options" in body, now in body) for body in endpoint.bodies[1:]] == [
        (now != "max_tokens", True)
    ] * 2
    assert not ask.waits


def test_it_is_left_alone_once_it_failed_too_often(endpoint: FakeEndpoint, asker: Make) -> None:
    endpoint.answer = lambda body: refuses(500, "oops")
    ask = asker(break_after=2, break_for=60)
    with pytest.raises(AttemptError, match="answered 500"):
        ask()
    assert len(endpoint.bodies) == 2


def test_neither_key_nor_address_is_told(
    endpoint: FakeEndpoint, asker: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLOUD_KEY", "hush-hush")
    replies = [refuses(status, f"no hush-hush at {endpoint.url}") for status in (401, 404, 418, 500, 400)]
    endpoint.answers_in_turn(*replies)
    caplog.set_level(logging.DEBUG, "quintet")
    told = ""
    for _ in replies:
        with pytest.raises((UnansweredError, RequestError)) as caught:
            asker(key_name="CLOUD_KEY", retries=0)()
        told += str(caught.value)
    assert set(endpoint.keys) == {"Bearer hush-hush"}
    assert "hush" not in told + caplog.text
    assert "127.0.0.1" not in told
