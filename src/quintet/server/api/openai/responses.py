"""Answers as OpenAI's responses, whole or streamed."""

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from quintet.server.api.openai.schemas import (
    CalledFunction,
    ChatAnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
    Completion,
    CompletionRequest,
    SaidLogprob,
    TextChoice,
    TextLogprobs,
    TokenLogprob,
    ToolCall,
    Usage,
)
from quintet.serving.answer import Answer, Call, Piece, SaidToken


class Reply(ABC):
    """What is said of an answer: its id, its model, and how each piece of it is written."""

    prefix: str
    response: type[BaseModel]
    streamed_object: str

    def __init__(self, request: ChatRequest | CompletionRequest, answer: Answer) -> None:
        self.request = request
        self.answer = answer
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"
        self.created = int(time.time())

    @property
    def _model(self) -> str:
        """Who answers: the model that was asked, or the provider's that answers for it."""
        return self.answer.answerer.model or self.request.model

    @property
    def usage(self) -> Usage:
        """How many tokens the answer took, over all of its choices."""
        prompt, completion = self.answer.prompt_tokens, self.answer.completion_tokens
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)

    def whole(self, pieces: Sequence[Piece]) -> BaseModel:
        """Return the response, given each choice in one piece."""
        return self.response(
            id=self.id,
            created=self.created,
            model=self._model,
            choices=[self._choice(piece) for piece in pieces],
            usage=self.usage,
            system_fingerprint=self.answer.answerer.expert,
            cached=self.answer.is_cached,
        )

    @abstractmethod
    def _choice(self, piece: Piece) -> BaseModel:
        """Return a choice that came in one piece."""

    def beginning(self) -> Iterator[str]:
        """Yield the events that come before any text."""
        return iter(())

    @abstractmethod
    def events(self, piece: Piece) -> Iterator[str]:
        """Yield the events of a piece."""

    def ending(self) -> Iterator[str]:
        """Yield the events after the last piece."""
        if self.request.includes_usage:
            yield event(self._head() | {"choices": [], "usage": self.usage.model_dump()})
        yield "data: [DONE]\n\n"

    def _chunk(self, choice: dict[str, Any]) -> str:
        usage = {"usage": None} if self.request.includes_usage else {}
        return event(self._head() | {"choices": [choice]} | usage)

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": self.streamed_object,
            "created": self.created,
            "model": self._model,
            "system_fingerprint": self.answer.answerer.expert,
        }


class ChatReply(Reply):
    """A chat completion."""

    prefix = "chatcmpl"
    response = ChatCompletion
    streamed_object = "chat.completion.chunk"

    request: ChatRequest

    def beginning(self) -> Iterator[str]:
        """Say of each choice that the assistant speaks."""
        for choice in range(self.answer.count):
            yield self._delta(choice, {"role": "assistant", "content": ""})

    def events(self, piece: Piece) -> Iterator[str]:
        """Yield the text, if any, the calls, and the end, if it is one."""
        if piece.text or piece.tokens:
            logprobs = self._of(piece)
            yield self._delta(piece.choice, {"content": piece.text}, logprobs and logprobs.model_dump())
        for index, call in enumerate(piece.calls):
            yield self._delta(piece.choice, {"tool_calls": [{"index": index, **_tool_call(call).model_dump()}]})
        if piece.finish_reason:
            yield self._delta(piece.choice, {}, finish_reason="tool_calls" if piece.calls else piece.finish_reason)

    def _choice(self, piece: Piece) -> ChatChoice:
        calls = [_tool_call(call) for call in piece.calls]
        return ChatChoice(
            index=piece.choice,
            message=ChatAnswerMessage(content=piece.text or None if calls else piece.text, tool_calls=calls or None),
            logprobs=self._of(piece),
            finish_reason="tool_calls" if calls else piece.finish_reason or "stop",
        )

    def _delta(self, choice: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None) -> str:
        return self._chunk({"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason})

    def _of(self, piece: Piece) -> ChatLogprobs | None:
        return ChatLogprobs(content=[_said(token) for token in piece.tokens]) if self.request.logprobs else None


class TextReply(Reply):
    """A completion without a template."""

    prefix = "cmpl"
    response = Completion
    streamed_object = "text_completion"
    request: CompletionRequest

    def __init__(self, request: CompletionRequest, answer: Answer) -> None:
        super().__init__(request, answer)
        self._offsets = [0] * answer.count

    def events(self, piece: Piece) -> Iterator[str]:
        """Yield the text, and with the last of it why it is the last."""
        yield self._chunk(self._choice(piece).model_dump())

    def _choice(self, piece: Piece) -> TextChoice:
        logprobs = None if self.request.logprobs is None else self._of(piece)
        return TextChoice(index=piece.choice, text=piece.text, logprobs=logprobs, finish_reason=piece.finish_reason)

    def _of(self, piece: Piece) -> TextLogprobs:
        said = [_said(token) for token in piece.tokens]
        offsets = []
        for token in said:
            offsets.append(self._offsets[piece.choice])
            self._offsets[piece.choice] += len(token.token)
        return TextLogprobs(
            tokens=[one.token for one in said],
            token_logprobs=[one.logprob for one in said],
            top_logprobs=[{top.token: top.logprob for top in one.top_logprobs} for one in said],
            text_offset=offsets,
        )


def _tool_call(call: Call) -> ToolCall:
    function = CalledFunction(name=call.name, arguments=call.arguments)
    return ToolCall(id=f"call_{secrets.token_hex(12)}", function=function)


def _said(token: SaidToken) -> SaidLogprob:
    top = [_logprob(*pair) for pair in token.top]
    return SaidLogprob(**dict(_logprob(token.written, token.logprob)), top_logprobs=top)


def _logprob(written: bytes, logprob: float) -> TokenLogprob:
    return TokenLogprob(token=written.decode(errors="replace"), logprob=logprob, bytes=list(written))


def event(value: dict[str, Any]) -> str:
    """Return a server-sent event that holds JSON."""
    # Escaped, because some clients take every line separator that Unicode has for the end of an event's line.
    return f"data: {json.dumps(value)}\n\n"
