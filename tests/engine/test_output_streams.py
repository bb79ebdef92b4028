"""How tokens get from the engine's thread to their readers."""

import asyncio

import pytest

from quintet.engine.interface import OutputKind, Token
from quintet.engine.output_streams import OutputStream, put_all

TOKENS = [Token(1), Token(2), Token(None, "stop")]


async def read(kind: OutputKind) -> tuple[list[int], list[Token]]:
    """Return how many tokens lay ready after each was put, and what was read at the end."""
    stream = OutputStream(asyncio.get_running_loop(), kind)
    ready = []
    for token in TOKENS:
        put_all([(stream, token)])
        await asyncio.sleep(0)
        ready.append(stream.news.qsize())
    return ready, [await stream.next() for _ in TOKENS]


@pytest.mark.parametrize(("kind", "ready"), [("delta", [1, 2, 3]), ("final", [0, 0, 3])])
def test_tokens_come_as_they_are_chosen_or_all_at_the_end(kind: OutputKind, ready: list[int]) -> None:
    assert asyncio.run(read(kind)) == (ready, TOKENS)


def test_an_error_ends_the_wait_of_both_kinds() -> None:
    async def fail() -> None:
        stream = OutputStream(asyncio.get_running_loop(), "final")
        put_all([(stream, Token(1)), (stream, OSError("gone"))])
        assert await stream.next() == Token(1)
        with pytest.raises(OSError, match="gone"):
            await stream.next()

    asyncio.run(fail())
