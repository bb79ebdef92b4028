"""What this server is, what it serves, and how it is. Answers no questions."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from quintet import __version__
from quintet.config import Project
from quintet.errors import EngineStoppedError
from quintet.server.dependencies import Served
from quintet.server.middleware.auth import NEEDS_KEY, Called
from quintet.server.schemas.common import (
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
from quintet.serving.caller import ANYONE
from quintet.serving.catalog import Entry
from quintet.serving.services import Services

router = APIRouter(tags=["status"])


@router.get("/", summary="What this is, and its endpoints", response_model=Welcome)
async def welcome(request: Request, served: Served, caller: Called) -> Any:
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
    company, device = served.project.config.company, served.engine.device.device
    return Welcome(company=company, version=__version__, device=device, needs_key=caller != ANYONE, endpoints=endpoints)


@router.get(
    "/api/models",
    summary="Every department: its method, its version, whether it can answer",
    dependencies=[*NEEDS_KEY],
    responses=REFUSED,
)
async def models(served: Served) -> ModelsAnswer:
    """List the departments that the caller may ask."""
    entries = [_entry(served, entry) for entry in await served.catalog.entries()]
    return ModelsAnswer(models=entries, base=BaseEntry(name=served.project.config.base_model))


@router.get(
    "/api/me",
    summary="Who asks: what their key may, and what is left of it",
    dependencies=[*NEEDS_KEY],
    responses=REFUSED,
)
async def me(served: Served, caller: Called) -> Me:
    """Say who the caller is, to themselves."""
    account = caller.account
    return Me(
        company=served.project.config.company,
        key=account.key_id if account else None,
        name=account.key.name if account else None,
        roles=caller.roles,
        expires_at=account.key.expires_at if account else None,
        budgets=[BudgetEntry.of(one) for one in account.standings] if account else [],
        hears=served.project.config.serving.transcription is not None,
        keeps_conversations=served.project.config.serving.keep_conversations if account else None,
    )


@router.get("/ready", summary="Whether it takes requests", responses=OUT_OF_SERVICE)
async def ready(served: Served) -> Ready:
    """Say whether requests may be sent here; a server that is ending says no before it stops."""
    served.drain.check()
    _check_engine(served)
    return Ready()


@router.get("/health", summary="The device, and which experts are loaded", responses=OUT_OF_SERVICE)
async def health(served: Served) -> Health:
    """Say how the server is, and which of the caller's experts are loaded."""
    _check_engine(served)
    device = served.engine.device
    return Health(device=device.device, gpu_name=device.gpu_name, loaded_models=served.catalog.loaded())


def _check_engine(served: Services) -> None:
    """Raise EngineStoppedError when the engine will never answer again."""
    if not served.engine.status.alive:
        raise EngineStoppedError


def _entry(served: Services, entry: Entry) -> ModelEntry:
    project, expert = served.project, entry.expert
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
