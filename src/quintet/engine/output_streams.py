"""Output streams: tokens on their way from the engine's thread to the event loops of those who wait for them."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from quintet.engine.interface import OutputKind, Token

News = Token | Exception


class OutputStream:
    """The tokens of one request: as they come, or all at the end, which wakes the event loop only once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: OutputKind = "delta") -> None:
        self.loop = loop
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self._kind = kind
        self._held: list[Token] = []

    def hold(self, item: News) -> bool:
        """Keep a token back if it is to be handed over at the end; return whether it was. Called by one thread."""
        if self._kind == "delta" or isinstance(item, Exception) or item.finish_reason:
            return False
        self._held.append(item)
        return True

    def put(self, item: News) -> None:
        """Hand an item over, behind those that were kept back. Called on the event loop."""
        for token in self._held:
            self.news.put_nowait(token)
        self._held.clear()
        self.news.put_nowait(item)

    async def next(self) -> Token:
        """Return the next token; raise what the engine says went wrong."""
        item = await self.news.get()
        if isinstance(item, Exception):
            raise item
        return item


def put_all(news: Iterable[tuple[OutputStream, News]]) -> None:
    """Put items on their streams from any thread, waking each event loop once."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[OutputStream, News]]] = {}
    for stream, item in news:
        if not stream.hold(item):
            of_loops.setdefault(stream.loop, []).append((stream, item))
    for loop, items in of_loops.items():
        # The loop may be gone; then nobody is left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_put, items)


def _put(items: list[tuple[OutputStream, News]]) -> None:
    for stream, item in items:
        stream.put(item)
