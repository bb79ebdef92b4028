"""Event stream: a reply as server-sent events, kept alive over long waits."""

import asyncio
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from quintet.errors import StoppingError
from quintet.server.api.openai.responses import Reply, event
from quintet.server.disconnect import ClientGoneError, while_connected
from quintet.server.errors import describe
from quintet.serving.drain import Drain

PING_SECONDS = 15.0
PING = ": ping\n\n"
"""A comment, which clients skip, and which keeps proxies from closing a silent connection."""


class EventStream(Response):
    """The events of a reply. Nothing is sent before the first piece, so that a refusal still has its status.

    A wait of more than PING_SECONDS is kept alive by a comment; after that an error is an event like any other.
    """

    media_type = "text/event-stream"

    def __init__(self, reply: Reply, drain: Drain) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._reply = reply
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGoneError):
            await while_connected(receive, self._send_all(_EventWriter(send, self.raw_headers)))

    async def _send_all(self, writer: "_EventWriter") -> None:
        pinging = asyncio.create_task(writer.ping_when_silent())
        try:
            reply, has_begun = self._reply, False
            async with aclosing(reply.answer.pieces()) as pieces:
                async for piece in pieces:
                    if not has_begun:  # who answers is certain from the first piece on
                        has_begun = True
                        await writer.write("".join(reply.beginning()))
                    await writer.write("".join(reply.events(piece)))
            await writer.write("".join(reply.ending()))
        except asyncio.CancelledError:
            if not (self._drain.is_cut and writer.has_started):
                raise
            await writer.write(event(describe(StoppingError())[1]))
        except Exception as error:
            if not writer.has_started:
                raise
            # The status has been sent, so all that is left is to say so and to end.
            await writer.write(event(describe(error)[1]))
        finally:
            pinging.cancel()
        await writer.end()


class _EventWriter:
    """Writes events to one client; the head of the response goes out with the first of them."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self._last = asyncio.get_running_loop().time()
        self.has_started = False

    async def write(self, text: str) -> None:
        """Send events as one chunk."""
        if not text:
            return
        if not self.has_started:
            self.has_started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        self._last = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def end(self) -> None:
        """Send the end of the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def ping_when_silent(self) -> None:
        """Send a comment whenever nothing was sent for PING_SECONDS."""
        while True:
            silent = asyncio.get_running_loop().time() - self._last
            if silent >= PING_SECONDS:
                await self.write(PING)
                silent = 0
            await asyncio.sleep(PING_SECONDS - silent)
