"""The store in a Redis: a real one, which is also stopped, killed and full."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from quintet.errors import ConfigError
from quintet.serving.response_cache.redis_store import LARGEST, PREFIX, RedisStore
from tests.serving.response_cache.conftest import PASSWORD, RunningRedis, free_port, running_redis


@asynccontextmanager
async def opened(url: str, patience: float = 5) -> AsyncGenerator[RedisStore]:
    store = RedisStore(url, 60, patience, (0.02, 0.02))
    try:
        yield store
    finally:
        await store.close()


def within_seconds(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


async def until(holds: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    while not await holds():
        await asyncio.sleep(0.005)


def test_what_was_put_by_one_server_is_there_for_another(shared_redis: RunningRedis) -> None:
    async def run() -> None:
        async with opened(shared_redis.url) as one, opened(shared_redis.url) as other:
            await one.put("a", b"\x00 bytes \xff")
            assert await other.get("a") == b"\x00 bytes \xff"
            assert await other.get("b") is None

    within_seconds(run())


def test_it_leaves_when_its_time_is_over(shared_redis: RunningRedis) -> None:
    async def run() -> None:
        async with opened(shared_redis.url) as store:
            await store.put("short", b"x")
            left: Any = shared_redis.admin.pttl(PREFIX + "short")
            assert 50_000 < left <= 60_000

    within_seconds(run())


def test_many_at_once_each_get_their_own(shared_redis: RunningRedis) -> None:
    async def run() -> None:
        async with opened(shared_redis.url) as store:
            keys = [f"many {number}" for number in range(200)]
            for key in keys:
                shared_redis.admin.set(PREFIX + key, key)
            found = await asyncio.gather(*map(store.get, keys))
            assert set(found) <= {*(key.encode() for key in keys), None}
            assert all(value in (key.encode(), None) for key, value in zip(keys, found, strict=True))

    within_seconds(run())


def test_whoever_leaves_in_the_middle_leaves_no_reply_to_the_next(shared_redis: RunningRedis) -> None:
    async def run() -> None:
        async with opened(shared_redis.url) as store:
            shared_redis.admin.set(PREFIX + "left", "left")
            shared_redis.admin.set(PREFIX + "next", "next")
            for _ in range(50):
                leaving = asyncio.create_task(store.get("left"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                leaving.cancel()
                assert await store.get("next") in (b"next", None)

    within_seconds(run())


def test_what_is_too_large_to_come_in_time_is_not_kept(shared_redis: RunningRedis) -> None:
    async def run() -> None:
        async with opened(shared_redis.url) as store:
            await store.put("large", b"x" * (LARGEST + 1))
            assert not shared_redis.admin.exists(PREFIX + "large")

    within_seconds(run())


def test_one_that_hangs_costs_a_moment_once_and_is_used_again_when_it_is_back(
    own_redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        own_redis.admin.set(PREFIX + "a", b"x")
        async with opened(own_redis.url, patience=0.05) as store:
            own_redis.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert [await store.get("a") for _ in range(100)] == [None] * 100
            assert time.monotonic() - began < 20 * 0.05  # and not a hundred times as long
            own_redis.process.send_signal(signal.SIGCONT)

            async def is_back() -> bool:
                return await store.get("a") == b"x"

            await until(is_back)

    with caplog.at_level(logging.INFO, "quintet.server"):
        within_seconds(run())
    assert [record.levelname for record in caplog.records][:2] == ["WARNING", "INFO"]
    assert "nothing for 50 ms" in caplog.text


def test_one_that_is_killed_fails_nobody_and_is_found_again_when_it_is_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        with running_redis(tmp_path) as first:
            async with opened(first.url) as store:
                await store.put("a", b"x")
                first.process.kill()
                first.process.wait()
                assert [await store.get("a") for _ in range(20)] == [None] * 20

                async def is_back() -> bool:
                    await store.put("a", b"y")
                    return await store.get("a") == b"y"

                with running_redis(tmp_path, urlsplit(first.url).port):
                    await until(is_back)

    with caplog.at_level(logging.INFO, "quintet.server"):
        within_seconds(run())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_one_that_is_not_there_yet_fails_nobody() -> None:
    async def run() -> None:
        async with opened(f"redis://127.0.0.1:{free_port()}") as store:
            await store.put("a", b"x")
            assert await store.get("a") is None

    within_seconds(run())


def test_one_that_is_full_still_answers_and_says_so_once(
    own_redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with opened(own_redis.url) as store:
            await store.put("a", b"x")
            own_redis.admin.config_set("maxmemory", "1")
            for _ in range(3):
                await store.put("b", b"x")
            assert await store.get("a") == b"x"

    within_seconds(run())
    assert len(caplog.records) == 1
    assert "maxmemory" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:wrong-{PASSWORD}@127.0.0.1:{{port}}/0",
        f"redis://:{PASSWORD}@127.0.0.1:1/0",
        f"redis://:{PASSWORD}@127.0.0.1:{{port}}/0?no_such_option=1",
    ],
)
def test_no_log_ever_shows_the_password(shared_redis: RunningRedis, caplog: pytest.LogCaptureFixture, url: str) -> None:
    async def run() -> None:
        async with opened(url.format(port=urlsplit(shared_redis.url).port)) as store:
            assert await store.get("a") is None

    within_seconds(run())
    assert len(caplog.records) == 1
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("url", [f"redys://:{PASSWORD}@host", f"redis://:{PASSWORD}@host:port/0"])
def test_a_url_that_cannot_be_read_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        RedisStore(url, 60)
    assert PASSWORD not in str(refused.value)
