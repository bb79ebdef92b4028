"""Admin routes: what administrators do to a running server."""

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Depends

from quintet.errors import ConfigError, RefusedConfigError
from quintet.registry.keys import list_keys
from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, Called, require_admin
from quintet.server.schemas.bodies import REFUSED, REFUSED_CONFIG, KeyEntry, KeysAnswer, Reloaded

router = APIRouter(
    prefix="/admin", tags=["administration"], dependencies=[*NEEDS_KEY, Depends(require_admin)], responses=REFUSED
)


@router.post("/reload", summary="Reload quintet.yaml", responses=REFUSED_CONFIG)
async def reload(ctx: Context, caller: Called) -> Reloaded:
    """Take up new, changed and removed departments; a file that cannot be used changes nothing."""
    try:
        change = await ctx.current.reload(by=caller.identity)
    except ConfigError as error:
        raise RefusedConfigError(str(error)) from error
    return Reloaded(**vars(change))


@router.get("/keys", summary="List the valid keys: what each may do, and what is left of its budgets")
async def keys(ctx: Context) -> KeysAnswer:
    """List the keys, but those that are revoked or expired; the keys themselves are kept nowhere."""
    now = datetime.now(UTC)
    found = await asyncio.to_thread(list_keys, ctx.current.project)
    return KeysAnswer(keys=[KeyEntry.of(key) for key in found if key.status(now) == "valid"])
