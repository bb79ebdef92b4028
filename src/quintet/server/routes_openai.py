"""OpenAI's API for chat, so that its clients work unchanged. Knows nothing of departments but as models."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from quintet.config import BASE
from quintet.data.examples import Message
from quintet.registry.experts import Expert
from quintet.server.answering import Answer, prepare_answer
from quintet.server.auth import NEEDS_KEY, ask
from quintet.server.catalog import Model
from quintet.server.disconnection import EventStream, while_connected
from quintet.server.error_responses import describe
from quintet.server.schemas import (
    OVER_BUDGET,
    REFUSED,
    ChatAnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    OpenAIModel,
    OpenAIModels,
    Usage,
)
from quintet.server.services import Served, Services

router = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=[*NEEDS_KEY], responses=REFUSED)


@router.get("/models", summary="The models that can answer, as OpenAI lists them")
async def models(served: Served) -> OpenAIModels:
    """List the departments that have a release, and the base."""
    entries = await served.catalog.entries()
    listed = [_listed(entry.name, entry.expert, served) for entry in entries if entry.expert]
    base = [_listed(BASE, None, served)] if BASE in served.project.models else []
    return OpenAIModels(data=[*listed, *base])


@router.get("/models/{model}", summary="One model, as OpenAI lists it")
async def model(model: str, served: Served) -> OpenAIModel:
    """Say whether there is a model of that name."""
    return _listed(model, await asyncio.to_thread(served.catalog.find, model), served)


@router.post(
    "/chat/completions",
    summary="OpenAI's chat completions, streamed or whole",
    response_model=ChatCompletion,
    dependencies=[Depends(ask)],
    responses=OVER_BUDGET,
)
async def chat_completions(request: Request, chat: ChatRequest, served: Served) -> Response | ChatCompletion:
    """Answer a conversation."""
    respond = _stream if chat.stream else _complete
    return await while_connected(request, respond(served, chat))


@dataclass(frozen=True)
class _Chat:
    """An answer under way, and what its response says of it."""

    request: ChatRequest
    model: Model
    answer: Answer
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> Usage:
        prompt, completion = self.answer.prompt_tokens, self.answer.completion_tokens
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


async def _open(served: Services, chat: ChatRequest) -> _Chat:
    model = await served.catalog.open(chat.model, _first_question(chat))
    # OpenAI's newer models call the system's turns the developer's; templates know only the system.
    roles = {"developer": "system"}
    messages = [Message(roles.get(turn.role, turn.role), turn.content) for turn in chat.messages]
    answer = await prepare_answer(served.engine, model, messages, chat.sampling, chat.stop)
    return _Chat(chat, model, answer)


def _first_question(chat: ChatRequest) -> str:
    """Return what all requests of one conversation have in common."""
    return next((turn.content for turn in chat.messages if turn.role == "user"), "")


async def _complete(served: Services, request: ChatRequest) -> ChatCompletion:
    chat = await _open(served, request)
    text = await chat.answer.text()
    message = ChatAnswerMessage(content=text)
    return ChatCompletion(
        id=chat.id,
        created=chat.created,
        model=request.model,
        choices=[ChatChoice(message=message, finish_reason=chat.answer.finish_reason or "stop")],
        usage=chat.usage,
        system_fingerprint=chat.model.expert_name,
    )


async def _stream(served: Services, request: ChatRequest) -> Response:
    """Wait for the first piece of text, so that a refusal still has a status, and stream from there."""
    chat = await _open(served, request)
    deltas = chat.answer.deltas()
    try:
        first = await anext(deltas, "")
    except BaseException:
        await deltas.aclose()
        raise
    return EventStream(_events(chat, first, deltas), deltas)


async def _events(chat: _Chat, first: str, deltas: AsyncGenerator[str]) -> AsyncGenerator[str]:
    yield _chunk(chat, {"role": "assistant", "content": ""})
    try:
        if first:
            yield _chunk(chat, {"content": first})
        async for text in deltas:
            yield _chunk(chat, {"content": text})
    except Exception as error:
        # The status has been sent, so all that is left is to say so and to end.
        yield _event(describe(error)[1])
        return
    yield _chunk(chat, {}, chat.answer.finish_reason)
    if chat.request.includes_usage:
        yield _event(_head(chat) | {"choices": [], "usage": chat.usage.model_dump()})
    yield "data: [DONE]\n\n"


def _chunk(chat: _Chat, delta: dict[str, str], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    usage = {"usage": None} if chat.request.includes_usage else {}
    return _event(_head(chat) | {"choices": [choice]} | usage)


def _head(chat: _Chat) -> dict[str, Any]:
    return {
        "id": chat.id,
        "object": "chat.completion.chunk",
        "created": chat.created,
        "model": chat.request.model,
        "system_fingerprint": chat.model.expert_name,
    }


def _event(value: dict[str, Any]) -> str:
    # Escaped, because some clients take every line separator that Unicode has for the end of an event's line.
    return f"data: {json.dumps(value)}\n\n"


def _listed(name: str, expert: Expert | None, served: Services) -> OpenAIModel:
    if expert is None:
        return OpenAIModel(id=name, created=served.started)
    written = expert.created_at.timestamp() if expert.created_at else served.started
    return OpenAIModel(id=name, created=int(written))
