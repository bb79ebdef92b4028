"""Estimates when a request that a full queue refused may come back: the Retry-After of a 429."""

import math
import time
from collections import deque
from collections.abc import Callable

LONGEST_SECONDS = 120
_REMEMBERED = 64
_MEMORY_SECONDS = 60.0


class RetryAfterEstimator:
    """Spreads refused requests over the places that become free.

    Places become free at a rate, which is measured. Each refused request is promised the next place, so that they come
    back one after the other, and not all at once for the same place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._freed: deque[float] = deque(maxlen=_REMEMBERED)
        self._promised = 0.0

    def note_free(self) -> None:
        """Note that a waiting request waits no more."""
        self._freed.append(self._clock())

    def forget_promises(self) -> None:
        """Note that there is plenty of room: refused requests need not come back in turn."""
        self._promised = 0.0

    def promise(self) -> int:
        """Return in how many seconds to come back; the next request is sent behind this one."""
        now = self._clock()
        while self._freed and self._freed[0] < now - _MEMORY_SECONDS:
            self._freed.popleft()
        seconds_for_one = (now - self._freed[0]) / len(self._freed) if self._freed else 1.0
        self._promised = max(self._promised, now) + seconds_for_one
        return min(LONGEST_SECONDS, math.ceil(self._promised - now))
