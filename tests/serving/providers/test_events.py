"""Server-sent events, whatever the pieces that they come in."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintet.serving.providers.sse import MOST_BYTES, EventError, read_events

STREAM = (
    b": ping\r\n\r\ndata: one\r\n\r\nevent: x\nid: 3\ndata:two\ndata: lines\n\ndata:\r\rdata\n\n\n"
    + 'data: {"text": "a\u2028b\x85"}\n\n'.encode()
)
EVENTS = ["one", "two\nlines", "", "", '{"text": "a\u2028b\x85"}']


def read(*parts: bytes) -> list[str]:
    async def come() -> AsyncGenerator[bytes]:
        for part in parts:
            yield part

    async def run() -> list[str]:
        return [data async for data in read_events(come())]

    return asyncio.run(run())


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_events_are_the_same_wherever_they_are_broken(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[start:end] for start, end in pairwise(marks))) == EVENTS


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_the_last_event_needs_no_empty_line(end: bytes) -> None:
    assert read(b"data: [DONE]" + end) == ["[DONE]"]


@pytest.mark.parametrize("parts", [[b"data: \xff\n\n"], [b"data: " + b"x" * MOST_BYTES, b"x\n\n"]])
def test_what_is_no_event_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(EventError):
        read(*parts)
