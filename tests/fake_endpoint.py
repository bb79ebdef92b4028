"""An OpenAI-compatible endpoint on a real socket, which answers as a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar


@dataclass
class Reply:
    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class HangupError(Exception):
    """The server closes the connection without a word."""


def says(content: str | None) -> Reply:
    return Reply(json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}))


def embeds(*vectors: list[float]) -> Reply:
    return Reply(json.dumps({"data": [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]}))


def refuses(status: int, message: str, **headers: str) -> Reply:
    return Reply(
        json.dumps({"error": {"message": message}}), status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][1]["content"])


class FakeEndpoint:
    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], Reply] = lambda body: refuses(404, "nothing is asked for here")
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.url = ""

    def answers_in_turn(self, *replies: Reply | type[HangupError]) -> None:
        left = list(replies)

        def answer(body: dict[str, Any]) -> Reply:
            reply = left.pop(0)
            if isinstance(reply, type):
                raise reply
            return reply

        self.answer = answer


Fake = TypeVar("Fake", bound=FakeEndpoint)


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Serve the fake on a free port; its URL ends with /v1."""

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
        request_queue_size = 64  # more than ask at once: who finds the queue full comes again a second later

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was stopped takes no answer

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
