"""A teacher on a real socket, which answers as a test tells it to."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class HangupError(Exception):
    """The server closes the connection without a word."""


def says(content: str | None) -> Reply:
    return Reply(json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}))


def refuses(status: int, message: str, **headers: str) -> Reply:
    return Reply(
        json.dumps({"error": {"message": message}}), status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def passage_in(prompt: str) -> str:
    found = re.search(r"<passage>\n(.*)\n</passage>", prompt, re.DOTALL)
    assert found is not None
    return found[1]


def is_check(body: dict[str, Any]) -> bool:
    return "yes or no" in body["messages"][1]["content"]


def one_question(body: dict[str, Any]) -> Reply:
    """Ask one question about each passage, and find every answer supported."""
    passage = passage_in(body["messages"][1]["content"])
    return says("Yes." if is_check(body) else json.dumps([{"question": f"What of {passage}?", "answer": passage}]))


class FakeTeacher:
    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], Reply] = one_question
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.url = ""

    @property
    def asked(self) -> list[str]:
        """The passages that questions were asked for, in the order of their text."""
        return sorted(passage_in(body["messages"][1]["content"]) for body in self.bodies if not is_check(body))

    def answers_in_turn(self, *replies: Reply | type[HangupError]) -> None:
        left = list(replies)

        def answer(body: dict[str, Any]) -> Reply:
            reply = left.pop(0)
            if isinstance(reply, type):
                raise reply
            return reply

        self.answer = answer


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTeacher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fake = FakeTeacher()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.bodies.append(body)
            fake.paths.append(self.path)
            fake.keys.append(self.headers["Authorization"])
            try:
                reply = fake.answer(body)
            except HangupError:
                return
            content = reply.body.encode() if isinstance(reply.body, str) else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was stopped takes no answer

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()
