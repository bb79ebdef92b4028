"""Single flight: one generation under way, for every request that asks for it meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from quintet.engine.interface import Token


class Flight:
    """Computes an answer once, however many read it, and no further than somebody does.

    `ended` is called when no more will come: the answer is whole then, or it failed, or its last reader left.
    """

    def __init__(self, tokens: AsyncGenerator[Token], ended: Callable[["Flight"], None]) -> None:
        self.tokens: list[Token] = []
        self._error: Exception | None = None
        self._ended = ended
        self._has_ended = False
        self._readers: set[asyncio.Event] = set()
        self._computing = asyncio.create_task(self._compute(tokens))

    @property
    def is_whole(self) -> bool:
        """Whether the answer has come to its end."""
        return bool(self.tokens) and self.tokens[-1].finish_reason is not None

    async def read(self, start: int = 0) -> AsyncGenerator[Token]:
        """Yield the tokens from that one on, those that came and those that come; raise what the engine does."""
        news = asyncio.Event()
        self._readers.add(news)
        place = start
        try:
            while True:
                while place < len(self.tokens):
                    place += 1
                    yield self.tokens[place - 1]
                if self._has_ended:
                    break
                news.clear()
                await news.wait()
            if self._error:
                raise self._error
        finally:
            self._readers.discard(news)
            if not self._readers and not self._has_ended:
                # The engine is freed; a request that comes now is not to wait for what is being stopped.
                self._end()
                self._computing.cancel()
                await asyncio.gather(self._computing, return_exceptions=True)

    async def _compute(self, tokens: AsyncGenerator[Token]) -> None:
        try:
            async with aclosing(tokens):
                async for token in tokens:
                    self.tokens.append(token)
                    self._tell()
                    if token.finish_reason:
                        return
        except Exception as error:
            self._error = error
        finally:
            self._end()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._ended(self)
            self._tell()

    def _tell(self) -> None:
        for news in self._readers:
            news.set()
