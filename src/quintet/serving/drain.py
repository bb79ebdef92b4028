"""Drain: the server takes no new requests, and finishes those under way."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from quintet.errors import StoppingError


class Drain:
    """Whether the server ends, and the tasks of the requests that are under way."""

    def __init__(self) -> None:
        self.has_begun = False
        self.is_cut = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many requests are under way."""
        return len(self._tasks)

    def begin(self) -> None:
        """Take no new requests from now on."""
        self.has_begun = True

    def check(self) -> None:
        """Raise StoppingError once the server ends."""
        if self.has_begun:
            raise StoppingError

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count the current task as a request that is under way; raise StoppingError once the server ends.

        Also raises StoppingError in place of the cancellation of a request that was cut short.
        """
        self.check()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  only tasks serve requests
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self.is_cut:
                raise
            task.uncancel()
            raise StoppingError from None
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()

    async def finished(self, seconds: float) -> bool:
        """Return whether all requests have ended, once they have or so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> None:
        """Cancel all requests that have not finished yet; each tells its client why."""
        self.is_cut = True
        for task in tuple(self._tasks):
            task.cancel()
