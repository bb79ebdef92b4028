"""Adapter manager: loads the adapters that requests want into memory, and unloads others for them.

    wanted → measured (reader's thread) → given room (eviction) → read (reader's thread) → installed (engine's thread)

One thread reads, one adapter after the other, so that reading takes no more than one core from the steps. It also frees
memory, before it reads the next: freeing gigabytes takes too long between two steps. An adapter that nobody wants any
more once it has been read is dropped.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from quintet.engine.adapters.eviction import AdapterCache
from quintet.engine.interface import Adapter
from quintet.engine.threads import in_own_thread
from quintet.engine.types import Prepared, Runner
from quintet.errors import ModelError, QuintetError

logger = logging.getLogger("quintet.engine")


@dataclass(frozen=True)
class LoadResult:
    """What the reader's thread has for the engine's: an adapter's size, the adapter itself, or why it cannot be had."""

    adapter: Adapter
    found: int | Prepared | Exception
    seconds: float


class AdapterManager:
    """Adapters on their way into memory.

    All methods are called under one lock; `notify` is called without it, when there is a result to poll. `poll` and
    `close` are for the thread that the runner computes on.
    """

    def __init__(self, runner: Runner, cache: AdapterCache, notify: Callable[[], None]) -> None:
        self.loads = 0
        self.seconds = 0.0
        self._runner = runner
        self._cache = cache
        self._notify = notify
        self._wanted: dict[str, Adapter] = {}
        self._results: deque[LoadResult] = deque()
        self._unloaded: list[Any] = []
        self._reader = ThreadPoolExecutor(1, "expert-reader")

    def want(self, adapter: Adapter) -> None:
        """Queue an adapter to be loaded, behind those that are queued already."""
        if adapter.digest not in self._wanted:
            self._wanted[adapter.digest] = adapter
            if adapter.digest not in self._cache.sizes:
                self._reader.submit(self._read, self._runner.measure, adapter)

    def poll(self, needed: Collection[str], used: Collection[str | None]) -> dict[str, QuintetError | None]:
        """Install adapters that were read, evict for others, and read those that have room; `needed` are still wanted.

        Returns the adapters whose loading is over: None for one in memory, else why it cannot be loaded.
        """
        ends: dict[str, QuintetError | None] = {}
        while self._results:
            ends |= self._take(self._results.popleft(), needed)
        still = set(needed) - ends.keys()
        self._wanted = {digest: adapter for digest, adapter in self._wanted.items() if digest in still}
        eviction = self._cache.plan(self._wanted, used)
        self._unloaded += [self._runner.unload(digest) for digest in eviction.evict]
        unloaded, self._unloaded = self._unloaded, []
        if unloaded:
            self._reader.submit(unloaded.clear)
        for digest in eviction.load:
            self._reader.submit(self._read, self._runner.prepare, self._wanted[digest])
        ends |= dict.fromkeys(eviction.loaded)
        return ends | {digest: self._too_large(self._wanted[digest]) for digest in eviction.rejected}

    def close(self) -> None:
        """Let go of the runner, once what is being read has been."""
        self._reader.shutdown(cancel_futures=True)
        self._results.clear()
        del self._runner

    def _take(self, news: LoadResult, needed: Collection[str]) -> dict[str, QuintetError]:
        """Act on a result; return the error to report, if any."""
        digest, found = news.adapter.digest, news.found
        self.seconds += news.seconds
        if isinstance(found, Exception):
            return self._give_up(news.adapter, found)
        if isinstance(found, int):
            self._cache.sizes.setdefault(digest, found)
        elif digest not in needed:
            self._cache.give_up(digest)
            self._unloaded.append(found)
        elif self._cache.fits(digest, found.bytes):
            started = time.monotonic()
            try:
                self._runner.install(news.adapter.digest, found)
            except Exception as error:
                return self._give_up(news.adapter, error)
            self._cache.arrive(news.adapter.digest, found.num_virtual_tokens)
            self.loads += 1
            self.seconds += time.monotonic() - started
            return {}
        else:
            self._unloaded.append(found)
        return {}

    def _give_up(self, adapter: Adapter, error: Exception) -> dict[str, QuintetError]:
        self._cache.give_up(adapter.digest)
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
        self._results.append(LoadResult(adapter, found, time.monotonic() - started))
        self._notify()

    def _too_large(self, adapter: Adapter) -> ModelError:
        size, budget = self._cache.sizes[adapter.digest], self._cache.budget
        return ModelError(
            f"the expert in {adapter.folder} takes {size / 1e6:,.1f} MB of memory, and all experts together may take "
            f"{budget / 1e6:,.1f} MB; raise serving.expert_memory in quintet.yaml, or train a smaller one"
        )
