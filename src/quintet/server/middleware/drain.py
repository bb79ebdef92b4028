"""Refuses requests once the server ends, and counts those under way."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quintet.serving.drain import Drain

STATUS_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""What is answered to the end: whoever watches the server wants to see it."""


class DrainMiddleware:
    """Refuses what comes once the server ends, and has the connections closed of what it still answers."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in STATUS_PATHS:
            await self._app(scope, receive, send)
            return
        with self._drain.request():
            await self._app(scope, receive, self._closing(send))

    def _closing(self, send: Send) -> Send:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.has_begun:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        return send_and_close
