"""How the server ends: it takes nothing new, and finishes what it has begun. Knows nothing of signals or processes."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from quintet.errors import StoppingError

Result = TypeVar("Result")


class Drain:
    """Whether the server ends, which requests are under way, and how to cut those short that take too long."""

    def __init__(self) -> None:
        self.has_begun = False
        self.under_way = 0
        self._is_cut = False
        self._waits: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Take no new requests from now on."""
        self.has_begun = True

    def check(self) -> None:
        """Raise StoppingError once the server ends."""
        if self.has_begun:
            raise StoppingError

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as under way; raise StoppingError once the server ends."""
        self.check()
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._idle.set()

    async def finished(self, seconds: float) -> bool:
        """Return whether all requests have ended, once they have or so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                while self.under_way:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> None:
        """End all answers that are not finished yet, so that their clients are told."""
        self._is_cut = True
        for wait in tuple(self._waits):
            wait.reschedule(0)

    async def unless_cut(self, awaited: Awaitable[Result]) -> Result:
        """Return what is awaited; raise StoppingError when answers are cut short meanwhile."""
        wait = asyncio.timeout(0 if self._is_cut else None)
        try:
            async with wait:
                self._waits.add(wait)
                return await awaited
        except TimeoutError:
            if wait.expired():
                raise StoppingError from None
            raise
        finally:
            self._waits.discard(wait)
