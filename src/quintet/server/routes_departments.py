"""One question, one answer: by department, or by the name of any model. Knows nothing of conversations."""

import time

from fastapi import APIRouter, Depends, Request

from quintet.data.examples import Message
from quintet.errors import UnknownModelError
from quintet.server.answering import prepare_answer
from quintet.server.auth import NEEDS_KEY, ask
from quintet.server.disconnection import while_connected
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


async def _answer(served: Services, name: str, query: Query) -> QueryAnswer:
    began = time.perf_counter()
    model = await served.catalog.open(name, query.query)
    messages = [Message("user", query.query)]
    answer = await prepare_answer(served.engine, model, messages, query.sampling, field="query")
    text = await answer.text()
    return QueryAnswer(
        model=name,
        query=query.query,
        response=text,
        tokens_generated=answer.completion_tokens,
        finish_reason=answer.finish_reason or "stop",
        latency_ms=round((time.perf_counter() - began) * 1000, 1),
        expert=model.expert_name,
    )
