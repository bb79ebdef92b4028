"""What a store of answers is, the one in memory, and which one a project has. Knows nothing of what is in it."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from quintet.config import Project
from quintet.serving.response_cache.redis_store import RedisStore

OVERHEAD = 500
"""Bytes that an entry takes beside its own, in CPython's objects."""


class Store(Protocol):
    """Keeps bytes under keys for a while; it may lose them at any time, and fails in silence."""

    async def get(self, key: str) -> bytes | None:
        """Return what is under a key, if it is still there."""

    async def put(self, key: str, value: bytes) -> None:
        """Keep something under a key."""

    async def close(self) -> None:
        """Let go of what the store holds open."""


class MemoryStore:
    """A store in this process: `size` bytes at most, of which what was used least lately leaves first.

    What is older than `ttl` seconds is not there any more.
    """

    def __init__(self, size: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """Return what is under a key, if it is still there."""
        if key not in self._entries:
            return None
        until, value = self._entries[key]
        if self._clock() >= until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Keep something under a key; what is larger than the whole store is not kept."""
        if key in self._entries:
            self._drop(key)
        if _bytes_of(value) > self._size:
            return
        self._entries[key] = (self._clock() + self._ttl, value)
        self.bytes += _bytes_of(value)
        while self.bytes > self._size:
            self._drop(next(iter(self._entries)))

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def _drop(self, key: str) -> None:
        _, value = self._entries.pop(key)
        self.bytes -= _bytes_of(value)


def make_store(project: Project) -> Store | None:
    """Return the store that a project names, if it wants one; raise ConfigError for one that cannot be."""
    settings, store = project.config.serving.cache, project.cache_store
    if store in ("off", "memory"):
        return None if store == "off" else MemoryStore(settings.size, settings.seconds)
    return RedisStore(store, settings.seconds)


def _bytes_of(value: bytes) -> int:
    return len(value) + OVERHEAD
