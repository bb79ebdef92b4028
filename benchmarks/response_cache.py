"""What the response cache saves, and what it costs those whom it does not help: over HTTP, by nano.

python -m benchmarks.response_cache [--requests 300] [--tokens 32]

Client and servers share a process, and the servers one engine; requests to them take turns, one at a time. A
redis-server on PATH is measured too, at work and stopped.
"""

import argparse
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from quintet.config import CacheConfig, Config, Project
from quintet.engine.engine import MixedEngine
from quintet.engine.runner.model_runner import ModelRunner
from quintet.models.base_model import NANO_FOLDER
from quintet.server.app import create_app

WARM_UP = 10


def project_with(root: Path, store: str) -> Project:
    """Return a project with that store."""
    departments = {"hr": {"description": "Leave and pay", "data": "hr.jsonl"}}
    config = Config.model_validate({"departments": departments, "serving": {"cache": CacheConfig(store=store)}})
    return Project(root, config)


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve an application from a thread, and yield a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_level="warning", lifespan="off"))
    # With its protocol named, or asyncio leaves TCP_NODELAY unset, and answers wait 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            while not server.started:
                time.sleep(0.01)
            yield client
            server.should_exit = True
            thread.join()


@contextmanager
def running_redis(folder: Path) -> "Iterator[tuple[str, subprocess.Popen[bytes]] | None]":
    """Yield where a Redis of our own listens, and its process; None where there is no program for it."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    path = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", ""]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.01)
    try:
        yield f"unix://{path}", process
    finally:
        process.kill()
        process.wait()


def ask(client: httpx.Client, question: str, tokens: int) -> float:
    """Return how many milliseconds a greedy answer takes."""
    body = {"query": question, "temperature": 0, "max_tokens": tokens}
    began = time.perf_counter()
    client.post("/api/infer/base", json=body).raise_for_status()
    return (time.perf_counter() - began) * 1000


def tell(name: str, milliseconds: list[float]) -> None:
    """Print the quartiles."""
    low, middle, high = statistics.quantiles(milliseconds, n=4)
    print(f"{name:34} {middle:7.2f} ms ({low:.2f} to {high:.2f}), slowest {max(milliseconds):.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    engine = MixedEngine(ModelRunner(str(NANO_FOLDER), "cpu"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        redis = running.enter_context(running_redis(Path(folder)))
        stores = {"off": "off", "memory": "memory", **({"redis": redis[0]} if redis else {})}
        clients = {
            name: running.enter_context(served(create_app(project_with(Path(folder), store), engine)))
            for name, store in stores.items()
        }
        times: dict[str, list[float]] = {}
        for number in range(options.requests + WARM_UP):
            for name, client in clients.items():
                question = f"Question {number} to {name}?"
                for kind in ("not there", "there"):
                    times.setdefault(f"{name}, {kind}", []).append(ask(client, question, options.tokens))
        for name, milliseconds in times.items():
            tell(name, milliseconds[2 * WARM_UP :])
        if redis:
            redis[1].send_signal(signal.SIGSTOP)
            stopped = [ask(clients["redis"], f"Anew {number}?", options.tokens) for number in range(options.requests)]
            tell("redis stopped", stopped)


if __name__ == "__main__":
    main()
