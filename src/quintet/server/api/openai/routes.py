"""Routes of OpenAI's API, so that its clients work unchanged."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response

from quintet.config import BASE
from quintet.errors import ModelError, RequestError
from quintet.registry.experts import Expert
from quintet.server.api.openai.requests import ChatQuestion, TextQuestion
from quintet.server.api.openai.responses import ChatReply, Reply, TextReply
from quintet.server.api.openai.schemas import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    OpenAIModel,
    OpenAIModels,
)
from quintet.server.api.openai.stream import EventStream
from quintet.server.dependencies import Context
from quintet.server.disconnect import while_connected
from quintet.server.middleware.auth import NEEDS_KEY, require_quota
from quintet.server.routing_headers import routing_headers
from quintet.server.schemas.bodies import OVER_BUDGET, REFUSED
from quintet.serving.answer import Answer
from quintet.serving.auto import AUTO, NobodysAnswer, find_department, finds_anybody
from quintet.serving.dispatch import find_answer
from quintet.serving.services import Services

router = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=[*NEEDS_KEY], responses=REFUSED)

Asked = TypeVar("Asked", ChatRequest, CompletionRequest)

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer: whole, or with `stream` as events.", "content": {"text/event-stream": {}}}
}


@router.get("/models", summary="The models that can answer, as OpenAI lists them")
async def models(ctx: Context) -> OpenAIModels:
    """List the departments that have a release or a provider, and the base."""
    entries = await ctx.catalog.entries()
    listed = [
        _listed(entry.name, entry.expert, ctx)
        for entry in entries
        if entry.expert or ctx.project.model_elsewhere(entry.name)
    ]
    base = [_listed(BASE, None, ctx)] if BASE in ctx.project.models else []
    routed = [_listed(AUTO, None, ctx)] if await finds_anybody(ctx) else []
    return OpenAIModels(data=[*listed, *routed, *base])


@router.get("/models/{model}", summary="One model, as OpenAI lists it")
async def model(model: str, ctx: Context) -> OpenAIModel:
    """Say whether there is a model of that name."""
    if model == AUTO and await finds_anybody(ctx):
        return _listed(AUTO, None, ctx)
    try:
        expert = await asyncio.to_thread(ctx.catalog.find, model)
    except ModelError:
        if ctx.project.model_elsewhere(model) is None:
            raise
        expert = None
    return _listed(model, expert, ctx)


@router.post(
    "/chat/completions",
    summary="OpenAI's chat completions, streamed or whole",
    response_model=ChatCompletion,
    dependencies=[Depends(require_quota)],
    responses={**OVER_BUDGET, **STREAMED},
)
async def chat_completions(request: Request, response: Response, chat: ChatRequest, ctx: Context) -> Any:
    """Answer a conversation; as `auto`, by the department that it is for."""
    return await while_connected(request.receive, _answer(ctx, chat, ChatQuestion, ChatReply, response))


@router.post(
    "/completions",
    summary="OpenAI's completions: continue a prompt, without a chat template",
    response_model=Completion,
    dependencies=[Depends(require_quota)],
    responses={**OVER_BUDGET, **STREAMED},
)
async def completions(request: Request, response: Response, completion: CompletionRequest, ctx: Context) -> Any:
    """Go on from each prompt."""
    return await while_connected(request.receive, _answer(ctx, completion, TextQuestion, TextReply, response))


async def _answer(
    ctx: Services,
    asked: Asked,
    make_question: Callable[[Asked], ChatQuestion | TextQuestion],
    make_reply: Callable[[Asked, Answer], Reply],
    response: Response,
) -> Any:
    question = make_question(asked)
    if asked.model != AUTO:
        return await _send(ctx, make_reply(asked, await find_answer(ctx, question)))
    routing = await find_department(ctx, question.turns[::-1])
    answer: Answer
    if routing.model is None:
        if not question.takes_any_text:
            raise RequestError(f"model: {routing.said}", param="model", code="department_unclear")
        answer = NobodysAnswer(routing.said, asked.n)
    else:
        asked = asked.model_copy(update={"model": routing.model})
        answer = await find_answer(ctx, make_question(asked))
    sent = await _send(ctx, make_reply(asked, answer))
    headers = sent.headers if isinstance(sent, Response) else response.headers
    headers.update(routing_headers(routing))
    return sent


async def _send(ctx: Services, reply: Reply) -> Any:
    if reply.request.stream:
        return EventStream(reply, ctx.drain)
    return reply.whole(await reply.answer.whole())


def _listed(name: str, expert: Expert | None, ctx: Services) -> OpenAIModel:
    if expert is None:
        root = ctx.project.model_elsewhere(name) or ctx.project.config.base_model
        return OpenAIModel(id=name, created=ctx.started, root=root, parent=None)
    written = expert.created_at.timestamp() if expert.created_at else ctx.started
    return OpenAIModel(id=name, created=int(written), root=expert.digest, parent=BASE)
