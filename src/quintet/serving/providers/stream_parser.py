"""Stream parser: OpenAI's chunks to pieces of an answer."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from quintet.serving.answer import Call, Ended, Piece, SaidToken
from quintet.serving.providers.request import estimate_tokens


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _CallPart(BaseModel):
    index: int = Field(0, ge=0, lt=1000)
    function: _Function = _Function()


class _Said(BaseModel):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallPart] | None = None


class _Logprob(BaseModel):
    token: str
    logprob: float
    octets: list[int] | None = Field(None, alias="bytes")
    top_logprobs: list["_Logprob"] = []

    @property
    def written(self) -> bytes:
        return self.token.encode() if self.octets is None else bytes(octet & 255 for octet in self.octets)


class _Logprobs(BaseModel):
    """Of chat, or of completions, which have lists side by side."""

    content: list[_Logprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    def said(self) -> Iterator[SaidToken]:
        for one in self.content or ():
            yield SaidToken(one.written, one.logprob, tuple((top.written, top.logprob) for top in one.top_logprobs))
        tokens = self.tokens or []
        tops = self.top_logprobs or [None] * len(tokens)
        for token, logprob, top in zip(tokens, self.token_logprobs or (), tops, strict=False):
            pairs = tuple((word.encode(), value) for word, value in (top or {}).items())
            yield SaidToken(token.encode(), 0.0 if logprob is None else logprob, pairs)


class _Choice(BaseModel):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class TokenUsage(BaseModel):
    """How many tokens there were, as the provider counts them."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)


class StreamChunk(BaseModel):
    """A part of an answer, or all of it; what else it holds is passed over."""

    choices: list[_Choice] = []
    usage: TokenUsage | None = None
    error: Any = None


class Reading:
    """Reads the chunks of one answer, of `count` choices; a call is passed on when its choice has ended."""

    def __init__(self, count: int) -> None:
        self.usage: TokenUsage | None = None
        self.texts = [""] * count
        self._calls: list[dict[int, Call]] = [{} for _ in range(count)]
        self._open = set(range(count))

    @property
    def has_ended(self) -> bool:
        """Whether every choice has said why it ended."""
        return not self._open

    @property
    def completion_tokens(self) -> int:
        """What the provider says, or an estimate of what has come so far."""
        if self.usage is not None:
            return self.usage.completion_tokens
        calls = [call.name + call.arguments for of_one in self._calls for call in of_one.values()]
        return sum(map(estimate_tokens, [*self.texts, *calls]))

    def read(self, chunk: StreamChunk) -> Iterator[Piece]:
        """Yield the pieces of a chunk; raise ValueError for a choice that nobody asked for."""
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            if choice.index not in range(len(self.texts)):
                raise ValueError(f"choice {choice.index}")
            yield from self._pieces(choice)

    def _pieces(self, choice: _Choice) -> Iterator[Piece]:
        number, said = choice.index, choice.delta or choice.message or _Said()
        if number not in self._open:
            return
        text = (choice.text or "") + (said.content or "") + (said.refusal or "")
        self.texts[number] += text
        for part in said.tool_calls or ():
            before = self._calls[number].get(part.index, Call("", ""))
            function = part.function
            self._calls[number][part.index] = Call(
                before.name + (function.name or ""), before.arguments + (function.arguments or "")
            )
        tokens = tuple(choice.logprobs.said()) if choice.logprobs else ()
        if choice.finish_reason:
            yield self._end(number, text, tokens, _ended(choice.finish_reason))
        elif text or tokens:
            yield Piece(number, text, tokens)

    def _end(self, number: int, text: str, tokens: tuple[SaidToken, ...], reason: Ended) -> Piece:
        self._open.discard(number)
        calls = tuple(call for _, call in sorted(self._calls[number].items(), key=lambda item: item[0]))
        return Piece(number, text, tokens, calls, reason)

    def close(self) -> Iterator[Piece]:
        """Yield the ends of choices that did not say why they ended, once their stream said that it is complete."""
        for number in sorted(self._open):
            yield self._end(number, "", (), "stop")


def _ended(reason: str) -> Ended:
    match reason:
        case "length" | "content_filter":
            return reason
    return "stop"
