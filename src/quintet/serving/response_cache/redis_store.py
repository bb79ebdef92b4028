"""Redis store: the response cache that several servers share. Its URL is shown to nobody.

A Redis that is slow or gone costs a request some milliseconds once: who waits longer than that goes without, and the
store is left alone until a ping of its own is answered in time.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from quintet.errors import ConfigError
from quintet.serving.background import BackgroundTasks

logger = logging.getLogger("quintet.server")

Result = TypeVar("Result")
PREFIX = "quintet:answer:"
PATIENCE_SECONDS = 0.03
"""How long an answer waits for the store."""
REST_SECONDS = (1.0, 10.0)
"""How long a store that failed is left alone before a ping; the more often it fails, the longer."""
GIVING_UP_SECONDS = 1.0
"""How long a connection is held on to of which nobody waits any longer: the next to ask may find it open."""
CONNECTIONS = 16
LARGEST = 1_000_000
"""Bytes of a value; a larger one would not come in time."""


class RedisStore:
    """A store in a Redis, which forgets what is older than `ttl` seconds, and more when it is told how much to hold.

    Raises ConfigError where the URL cannot be used, or the library is not installed.
    """

    def __init__(
        self, url: str, ttl: float, patience: float = PATIENCE_SECONDS, rest: tuple[float, float] = REST_SECONDS
    ) -> None:
        self._client = _client_of(url)
        self._patience = patience
        self._milliseconds = int(ttl * 1000)
        self._shortest_rest, self._longest_rest = rest
        self._rest = self._shortest_rest
        self._recovered_at = -math.inf
        self._commands = BackgroundTasks()
        self._recovering: asyncio.Task[None] | None = None
        self._told = ""

    async def get(self, key: str) -> bytes | None:
        """Return what is under a key, if it is there and comes in time."""
        found: bytes | None = await self._in_time(lambda: self._client.get(PREFIX + key))
        return found

    async def put(self, key: str, value: bytes) -> None:
        """Keep something under a key, if that is done in time."""
        if len(value) <= LARGEST:
            await self._in_time(lambda: self._client.set(PREFIX + key, value, px=self._milliseconds))

    async def close(self) -> None:
        """Close the connections."""
        await self._commands.cancel()
        await self._client.aclose()

    async def _in_time(self, command: Callable[[], Awaitable[Result]]) -> Result | None:
        """Return what Redis replies; None where it is left alone, does not reply in time, or refuses."""
        from redis import ResponseError

        if self._recovering is not None:
            return None
        try:
            return await self._reply(command)
        except ResponseError as error:
            # It is there and quick, but has no room, say, or is a replica that cannot be written to.
            self._tell(f"refuses: {error}")
        except Exception as error:
            self._tell(f"does not answer ({type(error).__name__}: {error})")
            if self._recovering is None:
                well_for = time.monotonic() - self._recovered_at
                short = well_for > self._longest_rest
                self._rest = self._shortest_rest if short else min(2 * self._rest, self._longest_rest)
                self._recovering = self._commands.begin(self._recover())
        return None

    async def _reply(self, command: Callable[[], Awaitable[Result]]) -> Result:
        """Return the reply; raise what the client does, or TimeoutError.

        A command that is late is not cut off: what it waits for may be the connection that the next one will use.
        """
        task = self._commands.begin(_awaited(command()))
        began = time.monotonic()
        await asyncio.wait({task}, timeout=self._patience)
        if not task.done() and time.monotonic() - began > 2 * self._patience:
            # The loop itself was held up: the reply may be here, unread.
            await asyncio.wait({task}, timeout=self._patience / 2)
        if not task.done():
            raise TimeoutError(f"nothing for {self._patience * 1000:.0f} ms")
        return task.result()

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(self._rest)
            try:
                await self._reply(self._client.ping)
            except Exception:  # noqa: S112  what it failed by is in the log already
                continue
            self._recovering, self._recovered_at = None, time.monotonic()
            self._told = ""
            logger.info("the response cache's Redis answers again")
            return

    def _tell(self, problem: str) -> None:
        """Log a problem, once."""
        if problem != self._told:
            self._told = problem
            logger.warning("the response cache's Redis %s; answers are computed meanwhile", problem)


async def _awaited(work: Awaitable[Result]) -> Result:
    return await work


def _client_of(url: str) -> Any:
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ConfigError(
            "serving.cache.store: a Redis takes a library of its own: pip install 'quintet[redis]'"
        ) from None
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=GIVING_UP_SECONDS,
            socket_timeout=GIVING_UP_SECONDS,
            socket_connect_timeout=GIVING_UP_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        # The error names what it found, and that may be a password.
        raise ConfigError(
            "serving.cache.store: the URL cannot be read; expected one such as redis://:${REDIS_PASSWORD}@host:6379/0"
        ) from None
    return Redis.from_pool(pool)
