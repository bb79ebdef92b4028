"""One client's connection, by uvicorn's h11 protocol."""

import asyncio
import json
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol

from quintet.server.errors import error_body
from quintet.server.middleware.body_limit import LINGER_SECONDS

SPARE_FILES = 512


class Connection(H11Protocol):
    """One client's connection; it is closed when the client keeps it waiting, and at once when there are too many."""

    max_connections: int
    seconds: float
    count_refusal: Callable[[str], None]
    _clock: asyncio.TimerHandle | None = None
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(503, "too_many_connections", f"{self.max_connections} clients are connected, the most allowed")
        else:
            self._set_clock(self._head_is_late)

    def data_received(self, data: bytes) -> None:
        """Take what came; from its first byte on, the head of a request must come within the time."""
        if self._is_refused:
            return
        if not self._is_answering and self._clock is None:
            self._set_clock(self._head_is_late)
        super().data_received(data)
        if self._is_answering:
            self._stop_clock()

    def pause_writing(self) -> None:
        """Note that the client does not read as fast as it is written to: it must go on within the time."""
        super().pause_writing()
        self._set_clock(self._reader_is_late)

    def resume_writing(self) -> None:
        """Note that it has gone on."""
        self._stop_clock()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        self._stop_clock()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _set_clock(self, then: Callable[[], None]) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(self.seconds, then)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _head_is_late(self) -> None:
        self._clock = None
        if self.conn.trailing_data[0]:
            self._refuse(408, "slow_client", f"the head of the request did not come within {self.seconds:g} s")
        else:
            self.transport.close()

    def _reader_is_late(self) -> None:
        self.count_refusal("slow_client")
        self.transport.abort()  # to close it would wait for the client to read

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.count_refusal(code)
        reason = {408: "Request Timeout", 503: "Service Unavailable"}[status]
        body = json.dumps(error_body(message, status, code)).encode()
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Retry-After: 1\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._is_refused = True
        if len(self.connections) > self.max_connections + SPARE_FILES // 2:
            self.transport.close()
        else:
            # A client that still sends to a closed connection may never read what it was told.
            self.transport.write_eof()
            self._clock = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
