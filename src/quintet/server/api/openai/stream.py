"""Pieces of an answer → a stream of events that outlives long waits. Knows nothing of what the events say."""

from collections.abc import AsyncGenerator

from fastapi.responses import Response

from quintet.server.api.openai.responses import Reply, event
from quintet.server.disconnect import EventStream
from quintet.server.errors import describe
from quintet.serving.answer import Piece

PING_SECONDS = 15.0
PING = ": ping\n\n"
"""A comment, which clients pass over, and which keeps proxies from closing a silent connection."""


async def stream(reply: Reply) -> Response:
    """Wait for the first piece, so that a refusal still has a status, and stream from there.

    A wait too long for that is streamed too.
    """
    pieces = reply.answer.pieces(PING_SECONDS)
    try:
        first = await anext(pieces, None)
    except BaseException:
        await pieces.aclose()
        raise
    return EventStream(_events(reply, first, pieces), pieces)


async def _events(reply: Reply, first: Piece | None, rest: AsyncGenerator[Piece | None]) -> AsyncGenerator[str]:
    has_begun = False
    try:
        async for piece in _all(first, rest):
            if piece is None:
                yield PING
                continue
            for text in () if has_begun else reply.beginning():  # who answers is certain from the first piece on
                yield text
            has_begun = True
            for text in reply.events(piece):
                yield text
    except Exception as error:
        # The status has been sent, so all that is left is to say so and to end.
        yield event(describe(error)[1])
        return
    for text in reply.ending():
        yield text


async def _all(first: Piece | None, rest: AsyncGenerator[Piece | None]) -> AsyncGenerator[Piece | None]:
    yield first
    async for piece in rest:
        yield piece
