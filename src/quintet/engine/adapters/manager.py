"""Brings experts into memory and out of it. Knows nothing of requests, but which experts they want and use.

    wanted → measured (reader's thread) → given room (residency) → read (reader's thread) → installed (engine's thread)

One thread reads, one expert after the other, so that reading takes no more than one core from the steps. It frees too,
before it reads the next: that takes too long between two steps for an expert of gigabytes. What no longer is wanted
when it has been read is let go.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from quintet.engine.adapters.eviction import Residency
from quintet.engine.interface import Adapter
from quintet.engine.threads import in_own_thread
from quintet.engine.types import Prepared, Runner
from quintet.errors import ModelError, QuintetError

logger = logging.getLogger("quintet.engine")


@dataclass(frozen=True)
class _News:
    """What the reader's thread found out: a size, the expert itself, or what is wrong with it."""

    adapter: Adapter
    found: int | Prepared | Exception
    seconds: float


class Exchange:
    """Experts on their way; all methods are called under one lock, which `tell` is called without, when there is news.

    `turn` and `close` are for the thread that the runner computes on.
    """

    def __init__(self, runner: Runner, residency: Residency, tell: Callable[[], None]) -> None:
        self.loads = 0
        self.seconds = 0.0
        self._runner = runner
        self._residency = residency
        self._tell = tell
        self._wanted: dict[str, Adapter] = {}
        self._news: deque[_News] = deque()
        self._gone: list[Any] = []
        self._reader = ThreadPoolExecutor(1, "expert-reader")

    def want(self, adapter: Adapter) -> None:
        """Note that an expert is wanted, behind those that are wanted already."""
        if adapter.digest not in self._wanted:
            self._wanted[adapter.digest] = adapter
            if adapter.digest not in self._residency.sizes:
                self._reader.submit(self._read, self._runner.measure, adapter)

    def turn(self, needed: Collection[str], used: Collection[str | None]) -> dict[str, QuintetError | None]:
        """Install who was read, unload who is in the way, and have read who has room; `needed` are still wanted.

        Returns those whose waiting is over: they are in memory, or will not be, because of an error.
        """
        ends: dict[str, QuintetError | None] = {}
        while self._news:
            ends |= self._take(self._news.popleft(), needed)
        still = set(needed) - ends.keys()
        self._wanted = {digest: adapter for digest, adapter in self._wanted.items() if digest in still}
        moves = self._residency.plan(self._wanted, used)
        self._gone += [self._runner.unload(digest) for digest in moves.leave]
        gone, self._gone = self._gone, []
        if gone:
            self._reader.submit(gone.clear)
        for digest in moves.read:
            self._reader.submit(self._read, self._runner.prepare, self._wanted[digest])
        ends |= dict.fromkeys(moves.ready)
        return ends | {digest: self._too_large(self._wanted[digest]) for digest in moves.too_large}

    def close(self) -> None:
        """Let go of the runner, when what is being read has been."""
        self._reader.shutdown(cancel_futures=True)
        self._news.clear()
        del self._runner

    def _take(self, news: _News, needed: Collection[str]) -> dict[str, QuintetError]:
        """Take note of what was found, and return what is wrong with it."""
        digest, found = news.adapter.digest, news.found
        self.seconds += news.seconds
        if isinstance(found, Exception):
            return self._give_up(news.adapter, found)
        if isinstance(found, int):
            self._residency.sizes.setdefault(digest, found)
        elif digest not in needed:
            self._residency.give_up(digest)
            self._gone.append(found)
        elif self._residency.fits(digest, found.bytes):
            started = time.monotonic()
            try:
                self._runner.install(news.adapter.digest, found)
            except Exception as error:
                return self._give_up(news.adapter, error)
            self._residency.arrive(news.adapter.digest, found.virtual)
            self.loads += 1
            self.seconds += time.monotonic() - started
            return {}
        else:
            self._gone.append(found)
        return {}

    def _give_up(self, adapter: Adapter, error: Exception) -> dict[str, QuintetError]:
        self._residency.give_up(adapter.digest)
        if isinstance(error, QuintetError):
            return {adapter.digest: error}
        logger.error("the expert in %s cannot be loaded", adapter.folder, exc_info=error)
        why = f"{type(error).__name__}: {error}"
        return {adapter.digest: ModelError(f"the expert in {adapter.folder} cannot be loaded ({why}); ask again")}

    def _read(self, work: Callable[[Adapter], int | Prepared], adapter: Adapter) -> None:
        started = time.monotonic()
        found: int | Prepared | Exception
        try:
            found = in_own_thread(lambda: work(adapter))
        except Exception as error:
            found = error
        self._news.append(_News(adapter, found, time.monotonic() - started))
        self._tell()

    def _too_large(self, adapter: Adapter) -> ModelError:
        size, budget = self._residency.sizes[adapter.digest], self._residency.budget
        return ModelError(
            f"the expert in {adapter.folder} takes {size / 1e6:,.1f} MB of memory, and all experts together may take "
            f"{budget / 1e6:,.1f} MB; raise serving.expert_memory in quintet.yaml, or train a smaller one"
        )
