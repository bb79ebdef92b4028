"""An OpenAI-compatible endpoint on a real socket, which answers as a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from select import select
from typing import Any, TypeVar


@dataclass
class Reply:
    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class HangupError(Exception):
    """The server closes the connection without a word."""


class SilenceError(Exception):
    """The server says nothing until the client has gone."""


HANG, CUT = object(), object()


@dataclass
class Stream:
    """A body that comes part by part: text, HANG until the client has gone, or CUT before its end."""

    parts: Iterable[object]
    kind: str = "text/event-stream; charset=utf-8"


def streams(*words: str, usage: tuple[int, int] | None = None, reason: str = "stop") -> Stream:
    """Return an answer as OpenAI streams it."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    if usage:
        chunks.append({"choices": [], "usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))})
    return Stream([*map(event, chunks), "data: [DONE]\n\n"])


def event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def says_part(text: str) -> str:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


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
        self.answer: Callable[[dict[str, Any]], Reply | Stream] = lambda body: refuses(404, "nothing is asked for here")
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.url = ""
        self.abandoned = 0
        """How many clients went away while they were kept waiting."""

    def answers_in_turn(self, *replies: Reply | Stream | type[Exception]) -> None:
        left = list(replies)

        def answer(body: dict[str, Any]) -> Reply | Stream:
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
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            body = {"raw": raw} if self.headers["Content-Type"].startswith("multipart/") else json.loads(raw)
            fake.bodies.append(body)
            fake.paths.append(self.path)
            fake.keys.append(self.headers["Authorization"])
            try:
                reply = fake.answer(body)
            except HangupError:
                return
            except SilenceError:
                self._wait_until_alone()
                return
            if isinstance(reply, Stream):
                self._stream(reply)
                return
            content = reply.body.encode() if isinstance(reply.body, str) else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, stream: Stream) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {stream.kind}\r\nTransfer-Encoding: chunked\r\n"
            self.wfile.write(f"{head}Connection: close\r\n\r\n".encode())
            for part in stream.parts:
                if part is HANG:
                    self._wait_until_alone()
                if part in (HANG, CUT):
                    return
                content = str(part).encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
            self.wfile.write(b"0\r\n\r\n")

        def _wait_until_alone(self) -> None:
            while not ended.is_set():
                if select([self.connection], [], [], 0.02)[0]:
                    with suppress(ConnectionError):
                        assert not self.connection.recv(1)
                    fake.abandoned += 1
                    return

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # more than ask at once: who finds the queue full comes again a second later

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was stopped takes no answer

    ended = threading.Event()
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
