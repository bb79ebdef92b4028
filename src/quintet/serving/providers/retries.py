"""Retries: one question to one provider, with attempts, back-off, and a time to give up.

Knows nothing of HTTP, nor of who else could answer. Once a piece is passed on, nothing is tried again: nobody can take
back what a client has read.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from quintet.errors import RequestError
from quintet.serving.answer import Piece
from quintet.serving.providers.circuit_breaker import BreakerOpenError
from quintet.serving.providers.client import AdaptedError, Provider
from quintet.serving.providers.errors import AttemptError, Reason, UnansweredError
from quintet.serving.providers.request import Asked
from quintet.serving.providers.stream_parser import Reading

logger = logging.getLogger("quintet.server")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0
"""Who asks to be left alone for longer is not waited for."""


@dataclass(frozen=True)
class Patience:
    """How waits are made: by the wall's clock, unless a test brings another."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def wait(self, attempt: int, retry_after: float | None) -> float:
        """Return the seconds to wait after an attempt, counted from 1: at random, or all would come again at once."""
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
        return self.chance() * longest if retry_after is None else retry_after + self.chance() * FIRST_WAIT_S


PATIENT = Patience()


class ProviderExchange:
    """Asks until there is an answer, or no more use in asking; `failed` hears of each attempt that was in vain."""

    def __init__(
        self, provider: Provider, asked: Asked, failed: Callable[[Reason], None], patience: Patience = PATIENT
    ) -> None:
        self.reading = Reading(asked.count)
        self._provider = provider
        self._asked = asked
        self._failed = failed
        self._patience = patience
        self._has_begun = False

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Yield the answer; raise UnansweredError, or RequestError for a question that the provider refuses."""
        until = self._patience.clock() + self._provider.config.timeout
        attempt = 1
        last: AttemptError | None = None
        while True:
            try:
                async with aclosing(self._attempt(until)) as pieces:
                    async for piece in pieces:
                        self._has_begun = True
                        yield piece
                return
            except AdaptedError:
                continue
            except BreakerOpenError as error:
                raise last or UnansweredError("failed too often of late", error.seconds) from None
            except AttemptError as failure:
                last = failure
                self._failed(failure.reason)
                logger.warning("provider %r %s", self._provider.name, failure.detail)
                wait = self._patience.wait(attempt, failure.retry_after)
                if (
                    (self._has_begun or not failure.again or attempt > self._provider.config.retries)
                    or wait > LONGEST_WAIT_S
                    or self._patience.clock() + wait > until
                ):
                    raise
            await self._patience.sleep(wait)
            attempt += 1

    async def _attempt(self, until: float) -> AsyncGenerator[Piece]:
        reading = self.reading = Reading(self._asked.count)
        with self._provider.breaker.attempt(AttemptError) as attempt:
            try:
                async with aclosing(self._provider.chunks(self._asked, until)) as chunks:
                    async for chunk in chunks:
                        for piece in reading.close() if chunk is None else reading.read(chunk):
                            attempt.is_answered()
                            yield piece
                        if chunk is None:
                            return
            except RequestError:
                attempt.is_answered()  # who refuses a question works
                raise
            except ValueError as error:
                raise AttemptError("unreadable", "answered with what is no answer", detail=str(error)) from None
            if not reading.has_ended:
                raise AttemptError("cut", "broke off", again=True)
