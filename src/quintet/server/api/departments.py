"""Routes of departments: one question, one answer, without a conversation."""

import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request

from quintet.errors import UnknownModelError
from quintet.messages import Message
from quintet.router.routing import RoutingChoice
from quintet.server.dependencies import Context
from quintet.server.disconnect import while_connected
from quintet.server.middleware.auth import NEEDS_KEY, require_quota
from quintet.server.routing_headers import DIGITS
from quintet.server.schemas.bodies import (
    OVER_BUDGET,
    REFUSED,
    DepartmentChoice,
    Likely,
    Query,
    QueryAnswer,
    RoutedAnswer,
)
from quintet.serving.answer import Answer
from quintet.serving.auto import AUTO, NobodysAnswer, find_department
from quintet.serving.catalog import Model
from quintet.serving.dispatch import find_answer
from quintet.serving.generation import GenerationContext, prepare_answer
from quintet.serving.providers.request import Asked, estimate_tokens
from quintet.serving.services import Services

router = APIRouter(
    prefix="/api",
    tags=["departments"],
    dependencies=[*NEEDS_KEY, Depends(require_quota)],
    responses={**REFUSED, **OVER_BUDGET},
)


@router.post("/infer/{model}", summary="Ask any model by name: a department, a version (hr@1), base, or auto")
async def infer(request: Request, model: str, query: Query, ctx: Context) -> RoutedAnswer | QueryAnswer:
    """Answer one question by the model of that name; by `auto`, as `/api/ask` does."""
    answer = answer_routed(ctx, query) if model == AUTO else answer_query(ctx, model, query)
    return await while_connected(request.receive, answer)


@router.post("/ask", summary="Ask whichever department the question is for")
async def ask_anyone(request: Request, query: Query, ctx: Context) -> RoutedAnswer:
    """Find the department that a question is for, of those that the caller may ask, and have it answer."""
    return await while_connected(request.receive, answer_routed(ctx, query))


@router.post("/{department}", summary="Ask a department")
async def ask_department(request: Request, department: str, query: Query, ctx: Context) -> QueryAnswer:
    """Answer one question by the department's expert."""
    departments = list(ctx.project.config.departments)
    if department not in departments:
        raise UnknownModelError(department, departments)
    return await while_connected(request.receive, answer_query(ctx, department, query))


@dataclass(frozen=True)
class _Question:
    model: str
    query: Query

    @property
    def affinity_key(self) -> str:
        return self.query.query

    @property
    def uses_token_ids(self) -> bool:
        return False

    async def to_expert(self, context: GenerationContext, model: Model) -> Answer:
        return await prepare_answer(
            context, model, [Message("user", self.query.query)], self.query.sampling, field="query"
        )

    def to_provider(self) -> Asked:
        query = self.query
        said = [Message("user", query.query)]
        own = query.model_dump(include={"temperature", "top_p"}, exclude_unset=True)
        fields = {"messages": [message.as_dict() for message in said], **own}
        return Asked("chat", fields, estimate_tokens(query.query), query.max_tokens, messages=said)


async def answer_query(ctx: Services, name: str, query: Query) -> QueryAnswer:
    """Return the answer of a model, by its name."""
    began = time.perf_counter()
    answer = await find_answer(ctx, _Question(name, query))
    return QueryAnswer(model=name, **await _say(query, answer, began))


async def _say(query: Query, answer: Answer, began: float) -> dict[str, Any]:
    """Wait for an answer, and return the fields that tell of it."""
    (said,) = await answer.whole()
    return {
        "query": query.query,
        "response": said.text,
        "tokens_generated": answer.completion_tokens,
        "finish_reason": said.finish_reason or "stop",
        "latency_ms": round((time.perf_counter() - began) * 1000, 1),
        "expert": answer.answerer.expert,
        "provider": answer.answerer.provider,
        "cached": answer.is_cached,
    }


async def answer_routed(ctx: Services, query: Query) -> RoutedAnswer:
    """Return the answer of the department that the question is for, or what is said where that is not clear."""
    began = time.perf_counter()
    routing = await find_department(ctx, [query.query])
    answer: Answer = NobodysAnswer(routing.said)
    if routing.model is not None:
        answer = await find_answer(ctx, _Question(routing.model, query))
    likely = [Likely(department=one.department, probability=round(one.probability, DIGITS)) for one in routing.ranked]
    return RoutedAnswer(
        model=routing.model,
        department=routing.department,
        probability=likely[0].probability if routing.department else None,
        runner_up=likely[1] if routing.department and len(likely) > 1 else None,
        choices=[_choice(choice) for choice in routing.choices],
        **await _say(query, answer, began),
    )


def _choice(choice: RoutingChoice) -> DepartmentChoice:
    probability = None if choice.probability is None else round(choice.probability, DIGITS)
    return DepartmentChoice(department=choice.department, description=choice.description, probability=probability)
