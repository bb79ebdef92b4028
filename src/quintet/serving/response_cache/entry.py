"""Cache entry: the tokens of an answer as bytes, and back. Never unpickles anything."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from quintet.engine.interface import FinishReason, Token

Said = tuple[float | None, tuple[tuple[NonNegativeInt, float], ...]]


class _Entry(BaseModel):
    """An answer as it is kept: under which key, its ids, their log probabilities where they were asked for.

    `end` is None where its reader stopped it, at a stop string.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    key: str
    ids: tuple[NonNegativeInt | None, ...]
    end: FinishReason | None
    said: tuple[Said, ...] | None = None


def pack(key: str, tokens: Sequence[Token]) -> bytes:
    """Return what is kept of an answer."""
    has_logprobs = any(token.logprob is not None for token in tokens)
    said = tuple((token.logprob, token.top_logprobs) for token in tokens) if has_logprobs else None
    end = tokens[-1].finish_reason if tokens else None
    entry = _Entry(key=key, ids=tuple(token.id for token in tokens), end=end, said=said)
    return entry.model_dump_json(exclude_none=False).encode()


def unpack(key: str, data: bytes) -> list[Token] | None:
    """Return the tokens of an answer, or None where the bytes are no answer, or that to another key.

    Who asks a store for one thing and is given another, as by a connection that lost count of its replies, would else
    give somebody's answer to somebody else.
    """
    try:
        entry = _Entry.model_validate_json(data)
    except ValidationError:
        return None
    said = entry.said if entry.said is not None else ((None, ()),) * len(entry.ids)
    if entry.key != key or len(said) != len(entry.ids):
        return None
    last = len(entry.ids) - 1
    return [
        Token(id_, entry.end if place == last else None, logprob, top)
        for place, (id_, (logprob, top)) in enumerate(zip(entry.ids, said, strict=True))
    ]
