"""Routes of experts: versions, evaluations, releases and rollbacks.

A release goes by what the gate said when the expert was measured, where training and evaluation run: the server has
neither. What was not measured as the gate wants it now is not released from here.
"""

import asyncio

from fastapi import APIRouter, Depends

from quintet.config import Project
from quintet.errors import GateError, ReleaseError, UnprovenError
from quintet.registry.evidence import read_evidence, why_it_decides_nothing
from quintet.registry.experts import look_up
from quintet.registry.releases import release, rollback
from quintet.server.api.expert_views import all_experts, describe_release, forgetting, one_expert
from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, Called, require_admin
from quintet.server.schemas.bodies import REFUSED, REFUSED_RELEASE
from quintet.server.schemas.experts import (
    ExpertAnswer,
    ExpertsAnswer,
    ForgettingAnswer,
    ReleaseEntry,
    WantedRelease,
    WantedRollback,
)

router = APIRouter(tags=["experts"], dependencies=[*NEEDS_KEY], responses=REFUSED)


@router.get("/api/experts", summary="List the versions of the departments, their scores and releases")
async def experts(ctx: Context, caller: Called) -> ExpertsAnswer:
    """List the versions of the departments that the caller may ask, or administers."""
    seen = caller.administered(ctx.current.project)
    return await asyncio.to_thread(all_experts, seen, names_who=caller.is_admin)


@router.get("/api/experts/{name}", summary="One version, such as hr@1: how it was trained, and its scores")
async def expert(name: str, ctx: Context, caller: Called) -> ExpertAnswer:
    """Tell all that is known of a version."""
    return await asyncio.to_thread(one_expert, caller.administered(ctx.current.project), name)


@router.get("/api/forgetting", summary="The forgetting matrix: each expert on every department's questions")
async def forgotten(ctx: Context, caller: Called) -> ForgettingAnswer:
    """Tell the perplexities that `quintet forgetting` measured last."""
    return await asyncio.to_thread(forgetting, caller.administered(ctx.current.project))


@router.post(
    "/admin/releases",
    summary="Release a version, if the gate lets it through",
    dependencies=[Depends(require_admin)],
    responses=REFUSED_RELEASE,
)
async def make_release(body: WantedRelease, ctx: Context, caller: Called) -> ReleaseEntry:
    """Release a version; it answers from the next request on."""
    project, name = ctx.current.project, f"{body.department}@{body.version}"
    found = await asyncio.to_thread(look_up, project, name)
    if why := await ctx.catalog.why_it_cannot_answer(found):
        raise ReleaseError(why)
    return await asyncio.to_thread(_release, project, name, body, caller.identity)


@router.post(
    "/admin/rollbacks",
    summary="Roll back to the release before",
    dependencies=[Depends(require_admin)],
    responses=REFUSED_RELEASE,
)
async def roll_back(body: WantedRollback, ctx: Context, caller: Called) -> ReleaseEntry:
    """Go back to the release before the live one."""
    project = ctx.current.project
    made = await asyncio.to_thread(rollback, project, body.department, reason=body.reason, by=caller.identity)
    return describe_release(made, names_who=True)


def _release(project: Project, name: str, wanted: WantedRelease, by: str | None) -> ReleaseEntry:
    evidence = read_evidence(project, name)
    why = why_it_decides_nothing(project, name, evidence)
    objection: GateError | UnprovenError | None
    if evidence is None or why is not None:
        objection = UnprovenError(name, why or "it was not measured")
    else:
        objection = None if evidence.passed else GateError(name, evidence.blocked_by)
    if objection and not wanted.force:
        raise objection
    # What the gate would have let through anyway was not forced.
    forced = objection is not None
    made = release(
        project, wanted.department, wanted.version, reason=wanted.reason, forced=forced, share=wanted.share, by=by
    )
    return describe_release(made, names_who=True)
