"""An engine whose answers have a time limit, and whose refusals say when a place will be free. Knows no HTTP."""

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from quintet.engine.interface import Engine, Request, Token
from quintet.errors import BusyError, StoppingError
from quintet.serving.drain import Drain
from quintet.serving.engines.wrapper import WrappedEngine

LONGEST_SECONDS = 120
_REMEMBERED = 64
_MEMORY_SECONDS = 60.0


class Line:
    """Those who were sent away because too many waited, and when each may find a place.

    Places become free at a rate, which is measured; each of those who were sent away is promised the next one. So they
    come back one after the other, and not all at once for the same place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._freed: deque[float] = deque(maxlen=_REMEMBERED)
        self._promised = 0.0

    def note_free(self) -> None:
        """Note that one of those who wait waits no more."""
        self._freed.append(self._clock())

    def forget_promises(self) -> None:
        """Note that there is plenty of room, so that whoever was sent away need not come back in turn."""
        self._promised = 0.0

    def promise(self) -> int:
        """Return in how many seconds to come back; the next to ask is sent behind this one."""
        now = self._clock()
        self._promised = max(self._promised, now) + self._seconds_for_one(now)
        return min(LONGEST_SECONDS, math.ceil(self._promised - now))

    def _seconds_for_one(self, now: float) -> float:
        while self._freed and self._freed[0] < now - _MEMORY_SECONDS:
            self._freed.popleft()
        return (now - self._freed[0]) / len(self._freed) if self._freed else 1.0


class QueuedEngine(WrappedEngine):
    """An engine that gives up an answer that takes longer than `seconds`, and all of them when the server must end."""

    def __init__(self, engine: Engine, drain: Drain, *, seconds: float | None = None, max_queue: int = 64) -> None:
        super().__init__(engine)
        self._drain = drain
        self._seconds = seconds
        self._max_queue = max_queue
        self._line = Line()

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token.

        Raises BusyError, which says when to come back, DeadlineError, and StoppingError when the server ends first.
        """
        if self._engine.status.waiting <= self._max_queue // 2:
            self._line.forget_promises()
        waits = True
        try:
            async with aclosing(self._engine.generate(replace(request, timeout=self._seconds))) as tokens:
                while (token := await self._drain.unless_cut(anext(tokens, None))) is not None:
                    if waits:
                        waits = False
                        self._line.note_free()
                    yield token
        except StoppingError:
            raise
        except BusyError as error:
            error.retry_after = self._line.promise()
            raise
