"""One question, one answer: by department, or by the name of any model. Knows nothing of conversations."""

import time
from dataclasses import dataclass

from fastapi import APIRouter, Depends, Request

from quintet.data.examples import Message
from quintet.engine.base import Engine
from quintet.errors import UnknownModelError
from quintet.server.answer import Answer
from quintet.server.answering import prepare_answer
from quintet.server.asking import find_answer
from quintet.server.auth import NEEDS_KEY, ask
from quintet.server.catalog import Model
from quintet.server.disconnection import while_connected
from quintet.server.recording import is_cached
from quintet.server.schemas import OVER_BUDGET, REFUSED, Query, QueryAnswer
from quintet.server.services import Served, Services

router = APIRouter(
    prefix="/api", tags=["departments"], dependencies=[*NEEDS_KEY, Depends(ask)], responses={**REFUSED, **OVER_BUDGET}
)


@router.post("/infer/{model}", summary="Ask any model by name: a department, a version (hr@1), or base")
async def infer(request: Request, model: str, query: Query, served: Served) -> QueryAnswer:
    """Answer one question by the model of that name."""
    return await while_connected(request, _answer(served, model, query))


@router.post("/{department}", summary="Ask a department")
async def ask_department(request: Request, department: str, query: Query, served: Served) -> QueryAnswer:
    """Answer one question by the department's expert."""
    departments = list(served.project.config.departments)
    if department not in departments:
        raise UnknownModelError(department, departments)
    return await while_connected(request, _answer(served, department, query))


@dataclass(frozen=True)
class _Question:
    model: str
    query: Query

    @property
    def beginning(self) -> str:
        return self.query.query

    async def to_expert(self, engine: Engine, model: Model) -> Answer:
        return await prepare_answer(
            engine, model, [Message("user", self.query.query)], self.query.sampling, field="query"
        )


async def _answer(served: Services, name: str, query: Query) -> QueryAnswer:
    began = time.perf_counter()
    answer = await find_answer(served, _Question(name, query))
    (said,) = await answer.whole()
    return QueryAnswer(
        model=name,
        query=query.query,
        response=said.text,
        tokens_generated=answer.completion_tokens,
        finish_reason=said.finish_reason or "stop",
        latency_ms=round((time.perf_counter() - began) * 1000, 1),
        expert=answer.answerer.expert,
        cached=is_cached(),
    )
