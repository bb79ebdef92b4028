"""Stores of the response cache: the interface, the one in memory, and which one a project has."""

import time
from collections.abc import Callable
from typing import Protocol

from cachetools import TTLCache

from quintet.config import Project
from quintet.serving.response_cache.redis_store import RedisStore

OVERHEAD = 600
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
    """A store in this process: `size` bytes at most, of which the least recently used are evicted first.

    What is older than `ttl` seconds is not there any more.
    """

    def __init__(self, size: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: TTLCache[str, bytes] = TTLCache(size, ttl, timer=clock, getsizeof=_bytes_of)

    @property
    def taken_bytes(self) -> int:
        """How many bytes are taken."""
        return int(self._entries.currsize)

    async def get(self, key: str) -> bytes | None:
        """Return what is under a key, if it is still there."""
        found: bytes | None = self._entries.get(key)
        return found

    async def put(self, key: str, value: bytes) -> None:
        """Keep something under a key; what is larger than the whole store is not kept."""
        self._entries.pop(key, None)
        if _bytes_of(value) <= self._entries.maxsize:
            self._entries[key] = value

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()


def make_store(project: Project) -> Store | None:
    """Return the store that a project names, if it wants one; raise ConfigError for one that cannot be."""
    settings, store = project.config.serving.cache, project.cache_store
    if store in ("off", "memory"):
        return None if store == "off" else MemoryStore(settings.size, settings.seconds)
    return RedisStore(store, settings.seconds)


def _bytes_of(value: bytes) -> int:
    return len(value) + OVERHEAD
