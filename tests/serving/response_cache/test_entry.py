"""What is kept of an answer, and that what comes back is that answer or nothing."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintet.engine.interface import FinishReason, Token
from quintet.serving.response_cache.entry import pack, unpack

logprobs = st.floats(max_value=0, allow_nan=False)
ids = st.integers(0, 2**31)
said = st.tuples(logprobs, st.lists(st.tuples(ids, logprobs), max_size=3).map(tuple))


@st.composite
def answers(draw: st.DrawFn) -> list[Token]:
    has_logprobs = draw(st.booleans())
    numbers = draw(st.lists(ids, min_size=1, max_size=5))
    reason: FinishReason | None = draw(st.sampled_from(["stop", "length", None]))
    tokens = [Token(id_, None, *(draw(said) if has_logprobs else (None, ()))) for id_ in numbers]
    last = tokens[-1]
    return [*tokens[:-1], Token(None if reason == "stop" else last.id, reason, last.logprob, last.top_logprobs)]


@given(answers())
def test_an_answer_comes_back_as_it_was_to_the_last_bit(answer: list[Token]) -> None:
    assert unpack("k", pack("k", answer)) == answer


def test_an_impossible_token_comes_back_as_one() -> None:
    answer = [Token(1, "length", -math.inf, ((1, -math.inf),))]
    assert unpack("k", pack("k", answer)) == answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04]\x94.",
        b"null",
        b"{}",
        b'{"key": "k", "ids": [1], "end": "bored", "said": null}',
        b'{"key": "k", "ids": ["one"], "end": "stop", "said": null}',
        b'{"key": "k", "ids": [-1], "end": "stop", "said": null}',
        b'{"key": "k", "ids": [1, 2], "end": "stop", "said": [[-0.5, []]]}',
        pack("k", [Token(1, "length")])[:-3],
    ],
)
def test_what_is_no_answer_is_nothing(data: bytes) -> None:
    assert unpack("k", data) is None


def test_the_answer_to_something_else_is_nothing() -> None:
    assert unpack("k", pack("another", [Token(1, "length")])) is None


def test_an_answer_is_kept_as_plain_json() -> None:
    kept = json.loads(pack("k", [Token(7), Token(None, "stop")]))
    assert kept == {"key": "k", "ids": [7, None], "end": "stop", "said": None}
