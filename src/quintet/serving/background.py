"""Background tasks: work that nobody waits for, kept until it has ended."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger("quintet.server")

Result = TypeVar("Result")


class BackgroundTasks:
    """Tasks that run to their end though nobody waits; asyncio itself would forget them. Their errors are logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin some work, and return its task for those who want to wait after all."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def finished(self, seconds: float | None = None) -> None:
        """Wait until all that has begun has ended, whatever came of it, so many seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def cancel(self) -> None:
        """Cancel what is under way, and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await self.finished()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("background work failed: %s", error, exc_info=error)
