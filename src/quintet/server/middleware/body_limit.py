"""Body limit: bodies of requests are read whole before a route sees them, within a size and a time."""

import asyncio

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quintet.errors import RequestError, SlowClientError, TooLargeError
from quintet.server.errors import CLIENT_CLOSED_REQUEST, refuse

LINGER_SECONDS = 2.0


class BodyLimit:
    """Passes on requests with their whole body, of at most `most` bytes, that came within so many seconds."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
        except RequestError as error:
            await refuse(error)(scope, receive, _lingering(receive, send))
        else:
            whole = Response(status_code=CLIENT_CLOSED_REQUEST) if body is None else self._app
            await whole(scope, _with_body(body or b"", receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """Return the body, or None when the client left; raise TooLargeError, SlowClientError."""
        self._check_length(int(headers.get("content-length", 0)))  # the server's parser lets only digits through
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while (message := await receive())["type"] == "http.request":
                    body += message.get("body", b"")
                    self._check_length(len(body))
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise SlowClientError(self._seconds) from None
        return None

    def _check_length(self, length: int) -> None:
        if length > self._most:
            raise TooLargeError(length, self._most)


def _with_body(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_whole() -> Message:
        return messages.pop() if messages else await receive()

    return receive_whole


def _lingering(receive: Receive, send: Send) -> Send:
    """End a response only when the client has sent all, or enough: one that still sends may never read it."""

    async def send_and_wait(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await send({**message, "more_body": True})
            message = {"type": "http.response.body"}
            await _read_on(receive)
        await send(message)

    return send_and_wait


async def _read_on(receive: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        pass
