"""Metrics route, for Prometheus. Only administrators may read it, since it tells of every department."""

import asyncio

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, require_admin
from quintet.server.schemas.bodies import REFUSED

router = APIRouter(tags=["status"], dependencies=[*NEEDS_KEY, Depends(require_admin)], responses=REFUSED)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(ctx: Context) -> Response:
    """Tell the numbers, under vLLM's names where it has them."""
    return Response(await asyncio.to_thread(ctx.metrics.text), media_type=CONTENT_TYPE_LATEST)
