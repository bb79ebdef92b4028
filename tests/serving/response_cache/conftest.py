"""A real Redis, where there is one on this machine."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

PASSWORD = "s3cret-of-redis"


@dataclass
class RunningRedis:
    """Where it listens, and its process."""

    url: str
    process: "subprocess.Popen[bytes]"
    admin: "redis.Redis"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running_redis(folder: Path, port: int | None = None) -> Iterator[RunningRedis]:
    """Run a server of our own, and wait until it answers."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server on PATH")
    port = port or free_port()
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--requirepass",
        PASSWORD,
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    with redis.Redis.from_url(url) as admin:
        try:
            _wait_for(admin)
            yield RunningRedis(url, process, admin)
        finally:
            process.kill()
            process.wait()


def _wait_for(admin: "redis.Redis") -> None:
    for _ in range(1000):
        with suppress(redis.ConnectionError):
            admin.ping()
            return
        time.sleep(0.01)
    raise TimeoutError("redis-server does not answer")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRedis]:
    with running_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RunningRedis]:
    """One that a test may do anything to."""
    with running_redis(tmp_path) as running:
        yield running
