"""The server as a process: signals, the end, too many clients, clients that do not read."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import httpx
import pytest

from quintet.config import Project
from quintet.engine.interface import EngineStatus, Token
from quintet.errors import ConfigError
from quintet.server.app import create_app
from quintet.server.process import listen, make_server, run
from tests.served import ScriptedEngine, Serve
from tests.server.raw_client import RawClient, changed

ENDLESS: list[Token | Exception] = [Token(40)] * 100_000
CHAT = {"model": "base", "messages": [{"role": "user", "content": "Hello?"}], "stream": True, "max_tokens": 4096}
QUERY = {"query": "Hello?"}
HALF = b"POST /api/infer/nobody HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{"
OTHER_HALF = b'"query": "Hello?"}'

PROGRAM = """
import sys
from pathlib import Path
from quintet.config import Project
from quintet.engine.interface import DeviceInfo, EngineStatus
from quintet.server import process
from quintet.server.app import create_app

class Idle:
    device, context_length, status = DeviceInfo("cpu"), 256, EngineStatus()

    async def close(self):
        print("closed", flush=True)

listener = process.listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
project = Project.load(Path(sys.argv[1]))
process.run(create_app(project, Idle()), listener, project.config.serving)
"""


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


@contextmanager
def running(project: Project) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves a project with an engine that is never asked, and its address."""
    command = [sys.executable, "-c", PROGRAM, str(project.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield process, url
        finally:
            process.kill()


def ready(url: str) -> int:
    try:
        return httpx.get(f"{url}/ready").status_code
    except httpx.TransportError:
        return 0


def test_a_process_that_is_told_to_end_answers_what_it_has_begun_and_nothing_new(project: Project) -> None:
    with running(project) as (running_one, url):
        assert eventually(lambda: ready(url) == 200)
        with RawClient(url) as client:
            client.send(HALF)
            assert ready(url) == 200
            running_one.send_signal(signal.SIGTERM)
            assert eventually(lambda: ready(url) == 503)
            assert httpx.get(f"{url}/health").status_code == 200
            refused = httpx.post(f"{url}/api/infer/base", json=QUERY)
            client.send(OTHER_HALF)
            status, headers, body = client.response()
        out, _ = running_one.communicate(timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
    assert (int(refused.headers["retry-after"]), refused.headers["connection"]) == (5, "close")
    assert (status, json.loads(body)["error"]["code"], headers["connection"]) == (404, "model_not_found", "close")
    assert (running_one.returncode, out.split()[-1]) == (0, "closed")


@contextmanager
def draining_server(project: Project, engine: ScriptedEngine) -> Iterator[tuple[str, Callable[..., None]]]:
    """A server in this process; its address, and what gives it a signal, by itself the one to end."""
    server = make_server(create_app(project, engine), project.config.serving)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve(listener: socket.socket) -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve([listener])

    def signalled(number: int = signal.SIGTERM) -> None:
        loops[0].call_soon_threadsafe(server.take_signal, number)

    with listen("127.0.0.1", 0) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        assert eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", signalled
        finally:
            server.should_exit = True
            thread.join()


def test_an_answer_that_takes_too_long_to_end_is_cut_and_its_client_told(project: Project) -> None:
    engine = ScriptedEngine(ENDLESS, pause=0.01)
    with draining_server(changed(project, drain_seconds=0.1), engine) as (url, end), ThreadPoolExecutor(1) as pool:
        whole = pool.submit(httpx.post, f"{url}/api/infer/base", json=QUERY | {"max_tokens": 4096})
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as response:
            lines = response.iter_lines()
            next(lines)
            assert eventually(lambda: engine.running == 2)
            end()
            rest = [line for line in lines if line]
        refused = whole.result()
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "server_stopping"
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
    assert engine.running == 0


def test_a_signal_in_the_middle_of_a_flood_breaks_no_answer(project: Project) -> None:
    engine = ScriptedEngine([*[Token(40)] * 3, Token(None, "stop")], pause=0.005)
    seen: list[int] = []
    numbers = count()

    def ask_on(url: str) -> None:
        with httpx.Client() as client:
            while not seen or seen[-1] == 200:
                # Each another, so that none is answered from the cache.
                query = {"query": f"Hello {next(numbers)}?"}
                try:
                    seen.append(client.post(f"{url}/api/infer/base", json=query).status_code)
                except httpx.TransportError:
                    # Refused, or left in the queue of a port that was closed: the engine was not asked.
                    return

    with draining_server(project, engine) as (url, signalled), ThreadPoolExecutor(8) as clients:
        asking = [clients.submit(ask_on, url) for _ in range(8)]
        assert eventually(lambda: len(seen) > 16)
        signalled()
        for each in asking:
            each.result()
    assert set(seen) <= {200, 503}
    assert seen.count(200) == len(engine.requests)


def test_an_answer_that_ends_in_time_is_whole(project: Project) -> None:
    engine = ScriptedEngine([*[Token(40)] * 20, Token(None, "stop")], pause=0.01)
    with (
        draining_server(project, engine) as (url, end),
        httpx.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        end()
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_a_second_signal_ends_the_process_at_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    engine = ScriptedEngine(ENDLESS, pause=0.01)
    with (
        draining_server(project, engine) as (url, end),
        httpx.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        end()
        assert eventually(lambda: ready(url) == 503)
        assert not ends
        end()
        assert eventually(lambda: ends == [128 + signal.SIGTERM])


def test_a_hangup_has_it_read_its_config_and_one_that_is_bad_changes_nothing(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quintet.server")
    file = project.root / "quintet.yaml"
    written = file.read_text()
    with draining_server(project, ScriptedEngine([])) as (url, signalled):
        for line, says in (
            ("legal: {description: Contracts., data: departments/hr.jsonl}", "quintet.yaml is read again: added legal"),
            ("legal: 3", "what was read before stays: "),
        ):
            file.write_text(written.replace("departments:\n", f"departments:\n  {line}\n"))
            signalled(signal.SIGHUP)
            assert eventually(lambda says=says: says in caplog.text)  # type: ignore[misc]
            names = [one["name"] for one in httpx.get(f"{url}/api/models").json()["models"]]
            assert names == ["legal", "hr", "finance"]
    assert "quintet.yaml:4: departments.legal: " in caplog.text


def test_a_server_whose_terminal_was_closed_ends(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda number: True)
    with draining_server(project, ScriptedEngine([])) as (url, signalled):
        monkeypatch.setattr(os, "isatty", lambda number: False)
        signalled(signal.SIGHUP)
        assert eventually(lambda: ready(url) == 0)


class Dead(ScriptedEngine):
    """An engine whose loop has failed."""

    status = EngineStatus(alive=False)


@pytest.mark.parametrize("path", ["/ready", "/health"])
def test_a_server_whose_engine_has_stopped_is_not_ready(project: Project, serve: Serve, path: str) -> None:
    with serve(create_app(project, Dead([]))) as url:
        response = httpx.get(url + path)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_stopped")


def test_one_client_too_many_is_told_so(project: Project, serve: Serve) -> None:
    with serve(create_app(changed(project, max_connections=2), ScriptedEngine([]))) as url:
        with RawClient(url) as first, RawClient(url):
            first.send(b"GET /ready HTTP/1.1\r\nHost: q\r\n\r\n")
            assert first.response()[0] == 200
            refused = httpx.get(f"{url}/ready")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_connections")
        assert eventually(lambda: ready(url) == 200)
        assert 'reason="too_many_connections"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_client_that_does_not_read_its_answer_is_cut_and_frees_the_engine(project: Project) -> None:
    engine = ScriptedEngine(ENDLESS, pause=0.003)
    with draining_server(changed(project, client_seconds=0.2), engine) as (url, _):
        with RawClient(url, receive_buffer=2048) as client:
            body = json.dumps(CHAT | {"n": 8}).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\nContent-Length: "
            client.send(f"{head}{len(body)}\r\n\r\n".encode() + body)
            assert eventually(lambda: engine.running == 8)
            assert eventually(lambda: engine.running == 0)
        assert 'reason="slow_client"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_port_that_another_process_listened_on_meanwhile_is_an_error_with_the_fix(project: Project) -> None:
    with listen("127.0.0.1", 0) as taken, listen("127.0.0.1", taken.getsockname()[1]) as other:
        other.listen()
        app = create_app(project, ScriptedEngine([]))
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*; try --port \d+"):
            run(app, taken, project.config.serving)
