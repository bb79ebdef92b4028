"""Status routes: what this server is, what it serves, and how it is."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from quintet import __version__
from quintet.config import Project
from quintet.errors import EngineStoppedError
from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, Called
from quintet.server.schemas.bodies import (
    OUT_OF_SERVICE,
    REFUSED,
    BaseEntry,
    BudgetEntry,
    Health,
    Me,
    ModelEntry,
    ModelsAnswer,
    Ready,
    ReleaseShare,
    Welcome,
)
from quintet.server.web.page import PATH as PAGE
from quintet.serving.caller import SUPERUSER
from quintet.serving.catalog import Entry
from quintet.serving.services import Services

router = APIRouter(tags=["status"])


@router.get("/", summary="What this is, and its endpoints", response_model=Welcome)
async def welcome(request: Request, ctx: Context, caller: Called) -> Any:
    """Say what this is; a browser is led to the page."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(PAGE.removeprefix("/"), headers={"Vary": "Accept"})
    paths = request.app.openapi()["paths"]
    endpoints = {
        f"{method.upper()} {path}": operation["summary"]
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    endpoints["POST /mcp"] = "The departments as tools, by the Model Context Protocol"
    endpoints[f"GET {PAGE}"] = "The page for people"
    endpoints["GET /docs"] = "This API, to read and to try"
    company, device = ctx.project.config.company, ctx.engine.device.device
    return Welcome(
        company=company, version=__version__, device=device, needs_key=caller != SUPERUSER, endpoints=endpoints
    )


@router.get(
    "/api/models",
    summary="List the departments: method, version, and whether each can answer",
    dependencies=[*NEEDS_KEY],
    responses=REFUSED,
)
async def models(ctx: Context) -> ModelsAnswer:
    """List the departments that the caller may ask."""
    entries = [_entry(ctx, entry) for entry in await ctx.catalog.entries()]
    return ModelsAnswer(models=entries, base=BaseEntry(name=ctx.project.config.base_model))


@router.get(
    "/api/me",
    summary="The caller: what their key may do, and what is left of its budgets",
    dependencies=[*NEEDS_KEY],
    responses=REFUSED,
)
async def me(ctx: Context, caller: Called) -> Me:
    """Say who the caller is, to themselves."""
    account = caller.limits
    return Me(
        company=ctx.project.config.company,
        key=account.key_id if account else None,
        name=account.key.name if account else None,
        roles=caller.roles,
        expires_at=account.key.expires_at if account else None,
        budgets=[BudgetEntry.of(one) for one in account.usages] if account else [],
        hears=ctx.project.config.serving.transcription is not None,
        keeps_conversations=ctx.project.config.serving.keep_conversations if account else None,
    )


@router.get("/ready", summary="Readiness: whether it takes requests", responses=OUT_OF_SERVICE)
async def ready(ctx: Context) -> Ready:
    """Say whether requests may be sent here; a server that is ending says no before it stops."""
    ctx.drain.check()
    _check_engine(ctx)
    return Ready()


@router.get("/health", summary="The device, and which experts are loaded", responses=OUT_OF_SERVICE)
async def health(ctx: Context) -> Health:
    """Say how the server is, and which of the caller's experts are loaded."""
    _check_engine(ctx)
    device = ctx.engine.device
    return Health(device=device.device, gpu_name=device.gpu_name, loaded_models=ctx.catalog.loaded())


def _check_engine(ctx: Services) -> None:
    """Raise EngineStoppedError when the engine will never answer again."""
    if not ctx.engine.status.alive:
        raise EngineStoppedError


def _entry(ctx: Services, entry: Entry) -> ModelEntry:
    project, expert = ctx.project, entry.expert
    split = entry.release.split if entry.release else ()
    elsewhere = project.model_elsewhere(entry.name) if entry.status == "elsewhere" else None
    return ModelEntry(
        name=entry.name,
        description=project.config.departments[entry.name].description,
        method=_method(project, entry),
        base=elsewhere or (entry.expert.base_model if entry.expert else project.config.base_model),
        status=entry.status,
        answered_by=list(project.answered_by(entry.name)),
        version=expert.name if expert else None,
        release=[ReleaseShare(version=f"{entry.name}@{version}", share=share) for version, share in split],
        problem=entry.problem,
    )


def _method(project: Project, entry: Entry) -> str | None:
    if entry.status == "elsewhere":
        return None
    return entry.expert.method if entry.expert else project.training(entry.name).method
