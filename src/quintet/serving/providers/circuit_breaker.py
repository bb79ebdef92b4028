"""Circuit breaker: whether an endpoint that failed is asked again.

Closed, all may ask. After so many failures in a row it is open, and nobody may, for a while; then it is half open, and
one may, to find out.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

State = Literal["closed", "half-open", "open"]
STATES: tuple[State, ...] = ("closed", "half-open", "open")


class BreakerOpenError(Exception):
    """Nobody may ask now; perhaps in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class Attempt:
    """One that may ask: it says when it is being answered; how it ended, its breaker sees."""

    def __init__(self, breaker: "CircuitBreaker", probes: bool) -> None:
        self._breaker = breaker
        self.probes = probes

    def is_answered(self) -> None:
        """Say that an answer has begun: who probes need not keep the others waiting for the end of it."""
        if self.probes:
            self.probes = False
            self._breaker._close_on_trial()


class CircuitBreaker:
    """Opens after `after` failures in a row, for `seconds`."""

    def __init__(self, after: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._after = after
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._is_probed = False

    @property
    def state(self) -> State:
        """How it stands now."""
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock() < self._opened_at + self._seconds else "half-open"

    @contextmanager
    def attempt(self, failure: type[Exception]) -> Iterator[Attempt]:
        """Let somebody ask, and learn from how it ends: by a `failure`, by anything else, which tells nothing, or well.

        Raises BreakerOpenError when nobody may ask.
        """
        state = self.state
        if state == "closed":
            attempt = Attempt(self, probes=False)
        else:
            if state == "open" or self._is_probed:
                assert self._opened_at is not None  # noqa: S101  or it were closed
                raise BreakerOpenError(max(1.0, self._opened_at + self._seconds - self._clock()))
            self._is_probed = True
            attempt = Attempt(self, probes=True)
        try:
            yield attempt
        except failure:
            if attempt.probes or self._opened_at is None:
                self._failures += 1
                if attempt.probes or self._failures >= self._after:
                    self._opened_at, self._is_probed = self._clock(), False
            raise
        except BaseException:
            if attempt.probes:
                self._is_probed = False
            raise
        attempt.is_answered()
        if self._opened_at is None:
            self._failures = 0

    def _close_on_trial(self) -> None:
        """Close, and open again at the next failure."""
        self._opened_at, self._is_probed = None, False
        self._failures = self._after - 1
