"""Request log: gives each request an id and a record, and shows the record to observers at its end."""

import re
import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from quintet.serving.request_record import Observer, RequestRecord, recorded

HEADER = "x-request-id"


CACHE_HEADER = "x-cache"


HEADERS = (HEADER, CACHE_HEADER)


_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestLog:
    """Keeps the record of each request, names it in the answer's `X-Request-Id`, and shows it to the observers.

    A client may bring an id; one that does not fit into a log line is not taken, and another is made.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        brought = headers.get(HEADER, "")
        record = RequestRecord(
            brought if _ID.fullmatch(brought) else f"req_{secrets.token_hex(12)}",
            scope["method"],
            headers.get("traceparent"),
        )
        with recorded(record):
            try:
                await self._app(scope, receive, self._watch(record, scope, send))
            finally:
                self._end(record, scope)

    def _watch(self, record: RequestRecord, scope: Scope, send: Send) -> Send:
        async def watched(message: Event) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = record.id
                if record.cache and record.status == 200:
                    headers[CACHE_HEADER] = record.cache
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before its last byte is sent: whoever has read it may ask about it at once.
                self._end(record, scope)
            await send(message)

        return watched

    def _end(self, record: RequestRecord, scope: Scope) -> None:
        if record.ended:
            return
        record.ended = time.monotonic()
        # The template: a path as it was sent may hold anything.
        record.route = getattr(scope.get("route"), "path", None)
        for observer in self._observers:
            observer(record)
