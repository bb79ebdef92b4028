"""Output streams: tokens on their way from the engine's thread to the event loops of those who wait for them."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from quintet.engine.interface import Token

News = Token | Exception


class OutputStream:
    """The tokens of one request, as they come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.news: asyncio.Queue[News] = asyncio.Queue()

    async def next(self) -> Token:
        """Return the next token; raise what the engine says went wrong."""
        item = await self.news.get()
        if isinstance(item, Exception):
            raise item
        return item


def put_all(news: Iterable[tuple[OutputStream, News]]) -> None:
    """Put items on their streams from any thread, waking each event loop once."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[OutputStream, News]]] = {}
    for reader, item in news:
        of_loops.setdefault(reader.loop, []).append((reader, item))
    for loop, items in of_loops.items():
        # The loop may be gone; then nobody is left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_put, items)


def _put(items: list[tuple[OutputStream, News]]) -> None:
    for reader, item in items:
        reader.news.put_nowait(item)
