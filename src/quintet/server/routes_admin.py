"""What administrators do to a running server. Answers no questions."""

from fastapi import APIRouter, Depends

from quintet.errors import ConfigError, RefusedConfigError
from quintet.server.auth import NEEDS_KEY, Called, administer
from quintet.server.schemas import REFUSED, REFUSED_CONFIG, Reloaded
from quintet.server.services import Served

router = APIRouter(
    prefix="/admin", tags=["administration"], dependencies=[*NEEDS_KEY, Depends(administer)], responses=REFUSED
)


@router.post("/reload", summary="Read quintet.yaml anew", responses=REFUSED_CONFIG)
async def reload(served: Served, caller: Called) -> Reloaded:
    """Take up new, changed and removed departments; a file that cannot be used changes nothing."""
    try:
        change = await served.current.reload(by=f"key {caller.account.key_id}" if caller.account else None)
    except ConfigError as error:
        raise RefusedConfigError(str(error)) from error
    return Reloaded(**vars(change))
