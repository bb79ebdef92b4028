"""Server-sent events: bytes of a stream to the data of its events.

Lines end as the standard says, and only so: JSON may hold other characters that Python takes for the end of a line.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator

MOST_BYTES = 4 * 2**20
"""Of one event: one that is larger is none of an answer's."""
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class EventError(Exception):
    """What came is no stream of events."""


async def read_events(parts: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Yield the data of each event, whatever the parts that it came in; comments and other fields are passed over.

    Raises EventError for an event that is too large, or not UTF-8.
    """
    held, data = b"", list[bytes]()
    async for part in parts:
        # A part that ends with \r may be half of an end of line, so it waits for the rest.
        *lines, held = _LINE_END.split(held + part)
        for line in lines:
            if line:
                data += _data_of(line)
            elif data:
                yield _text(data)
                data = []
        if len(held) + sum(map(len, data)) > MOST_BYTES:
            raise EventError("an event is too large")
    data += _data_of(held.rstrip(b"\r"))
    if data:  # the standard drops an event that no empty line ends; some who send them forget the last one
        yield _text(data)


def _data_of(line: bytes) -> list[bytes]:
    name, _, value = line.partition(b":")
    return [value.removeprefix(b" ")] if name == b"data" else []


def _text(data: list[bytes]) -> str:
    try:
        return b"\n".join(data).decode()
    except UnicodeDecodeError:
        raise EventError("an event is not UTF-8") from None
