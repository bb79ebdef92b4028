"""Two server processes over one PostgreSQL, one Redis and one object store, with the config of deploy/kubernetes."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from quintet.config import Project
from quintet.registry.budgets import parse_budget
from quintet.registry.database import close_engines
from quintet.registry.keys import create_key
from quintet.registry.releases import release, rollback
from tests.registry.conftest import running_postgres
from tests.served import MakeExpert
from tests.serving.response_cache.conftest import running_redis

CONFIG = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "quintet.yaml"
SECONDS = 5
"""Within so long everybody answers from a new release."""
QUESTION = {"query": "Hello?", "max_tokens": 8, "temperature": 0}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Replicas:
    """The project as the machine that trains has it, the servers' addresses, and a key to them."""

    project: Project
    urls: tuple[str, ...]
    key: str

    def ask(self, url: str, key: str | None = None, **body: object) -> httpx.Response:
        return httpx.post(f"{url}/api/hr", json=QUESTION | body, headers={"X-API-Key": key or self.key}, timeout=300)


def _write_project(root: Path, base: Path) -> Path:
    """Write the config that the pods have, on the tiny base and for loopback."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    config["base_model"] = str(base)
    config["serving"] |= {"host": "127.0.0.1", "port": 0}
    root.mkdir(parents=True)
    (root / "quintet.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return root


@contextmanager
def _process(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a server, and have it end as an orchestrator does, with exit code 0."""
    command = [sys.executable, "-u", "-m", "quintet.cli", "serve", str(root)]
    log = (root / "log").open("w")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, (root / "log").read_text()
        finally:
            process.kill()


def _address(process: "subprocess.Popen[str]") -> str:
    """Wait until a server takes requests, and return where."""
    assert process.stdout is not None
    url = re.search(r"http://[\d.:]+", process.stdout.readline())
    assert url is not None
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url[0]}/ready").status_code == 200:
                return url[0]
        time.sleep(0.1)
    raise TimeoutError(url[0])


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        redis = stack.enter_context(running_redis(folder))
        patch.setenv("QUINTET_DATABASE_URL", stack.enter_context(running_postgres()))
        stack.callback(close_engines)
        patch.setenv("QUINTET_REDIS_URL", redis.url)
        patch.setenv("QUINTET_ARTIFACTS_URL", f"file://{folder}/store")
        project = Project.load(_write_project(folder / "training", tiny_base))
        for version in (1, 2):
            make_expert(project, version=version, seed=version)
        _, key = create_key(project, departments=["hr"])
        roots = [_write_project(folder / name, tiny_base) for name in ("one", "other")]
        processes = [stack.enter_context(_process(root)) for root in roots]
        yield Replicas(project, tuple(map(_address, processes)), key)


def test_a_server_answers_from_an_expert_that_another_machine_made(replicas: Replicas) -> None:
    assert [replicas.ask(url).json()["expert"] for url in replicas.urls] == ["hr@2", "hr@2"]


def test_what_one_server_answered_the_other_has(replicas: Replicas) -> None:
    """On a machine that is busy a Redis may be late for once, and is left alone then."""
    for number in range(20):
        query = f"Who approves overtime on day {number}?"
        first, second = (replicas.ask(url, query=query) for url in replicas.urls)
        assert first.headers["x-cache"] == "miss"
        assert first.json()["response"] == second.json()["response"]
        if second.headers["x-cache"] == "hit":
            return
        time.sleep(0.5)
    pytest.fail("nothing that one server answered was there for the other")


def test_a_budget_is_counted_by_all_together(replicas: Replicas) -> None:
    _, key = create_key(replicas.project, departments=["hr"], budgets=[parse_budget("4 requests/day")])
    seen = [replicas.ask(replicas.urls[number % 2], key).status_code for number in range(6)]
    assert seen == [200] * 4 + [429] * 2


@dataclass(frozen=True)
class Answer:
    """What a server said to a request that began then."""

    url: str
    began: float
    status: int
    expert: str | None


def test_a_rollback_under_load_fails_no_request_and_is_seen_by_all_in_time(replicas: Replicas) -> None:
    answers: list[Answer] = []
    stop = threading.Event()

    def ask_on(url: str, client: int) -> None:
        while not stop.is_set():
            began = time.monotonic()
            response = replicas.ask(url, query=f"Question {client} at {began}")
            answers.append(Answer(url, began, response.status_code, response.json().get("expert")))

    def wait_for(more: int) -> None:
        """Wait until each server has given so many more answers, or the time is over in which all are to know."""
        until, before = time.monotonic() + SECONDS, len(answers)
        while time.monotonic() < until:
            if all(sum(answer.url == url for answer in answers[before:]) >= more for url in replicas.urls):
                return
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_on, url, client) for url in replicas.urls for client in range(4)]
        wait_for(20)
        rollback(replicas.project, "hr")
        done = time.monotonic()
        wait_for(40)
        stop.set()
        for each in asking:
            each.result()
    release(replicas.project, "hr", 2)
    assert {answer.status for answer in answers} == {200}
    for url in replicas.urls:
        before, after = (
            {answer.expert for answer in answers if answer.url == url and (answer.began > done) is late}
            for late in (False, True)
        )
        assert "hr@2" in before
        assert after == {"hr@1"}
