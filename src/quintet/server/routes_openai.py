"""OpenAI's API, so that its clients work unchanged. Knows nothing of departments but as models."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request

from quintet.config import BASE
from quintet.registry.experts import Expert
from quintet.server.answer import Answer
from quintet.server.asking import Question, find_answer
from quintet.server.auth import NEEDS_KEY, ask
from quintet.server.disconnection import while_connected
from quintet.server.openai_answers import ChatReply, Reply, TextReply
from quintet.server.openai_questions import ChatQuestion, TextQuestion
from quintet.server.schemas import OVER_BUDGET, REFUSED
from quintet.server.schemas_openai import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    OpenAIModel,
    OpenAIModels,
)
from quintet.server.services import Served, Services
from quintet.server.streaming import stream

router = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=[*NEEDS_KEY], responses=REFUSED)

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer: whole, or with `stream` as events.", "content": {"text/event-stream": {}}}
}


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
    responses={**OVER_BUDGET, **STREAMED},
)
async def chat_completions(request: Request, chat: ChatRequest, served: Served) -> Any:
    """Answer a conversation."""
    return await while_connected(request, _answer(served, ChatQuestion(chat), partial(ChatReply, chat)))


@router.post(
    "/completions",
    summary="OpenAI's completions: texts that go on from a prompt, without a template",
    response_model=Completion,
    dependencies=[Depends(ask)],
    responses={**OVER_BUDGET, **STREAMED},
)
async def completions(request: Request, completion: CompletionRequest, served: Served) -> Any:
    """Go on from each prompt."""
    return await while_connected(request, _answer(served, TextQuestion(completion), partial(TextReply, completion)))


async def _answer(served: Services, question: Question, make_reply: Callable[[Answer], Reply]) -> Any:
    reply = make_reply(await find_answer(served, question))
    return await stream(reply) if reply.request.stream else reply.whole(await reply.answer.whole())


def _listed(name: str, expert: Expert | None, served: Services) -> OpenAIModel:
    if expert is None:
        return OpenAIModel(id=name, created=served.started, root=served.project.config.base_model, parent=None)
    written = expert.created_at.timestamp() if expert.created_at else served.started
    return OpenAIModel(id=name, created=int(written), root=expert.digest, parent=BASE)
