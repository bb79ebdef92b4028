"""The ASGI application: routes, middleware, errors and start-up around one engine."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from quintet import __version__
from quintet.config import KeyMode, Project
from quintet.engine.interface import Engine
from quintet.errors import ModelError, QuintetError, RegistryError
from quintet.registry.database import held_open
from quintet.server import routing_headers
from quintet.server.api import admin, conversations, departments, experts, feedback, files, mcp, metrics, status
from quintet.server.api.openai import routes as openai
from quintet.server.errors import UnexpectedErrors, add_error_handlers
from quintet.server.middleware import request_log
from quintet.server.middleware.auth import Authentication, Authenticator
from quintet.server.middleware.body_limit import BodyLimit
from quintet.server.middleware.drain import DrainMiddleware
from quintet.server.schemas.bodies import FAILED
from quintet.server.web import api_reference, page
from quintet.serving import quota
from quintet.serving.answer_log import RecentAnswers
from quintet.serving.catalog import Catalog
from quintet.serving.drain import Drain
from quintet.serving.live_project import LiveProject
from quintet.serving.live_router import LiveRouter
from quintet.serving.observability.logs import log_request
from quintet.serving.observability.metrics import Metrics
from quintet.serving.observability.tracing import Tracing, tracing_from_environment
from quintet.serving.providers.pool import Providers
from quintet.serving.quota import QuotaStore
from quintet.serving.response_cache.cached_engine import CachedEngine
from quintet.serving.response_cache.store import make_store
from quintet.serving.services import Services

logger = logging.getLogger("quintet.server")


def create_app(
    project: Project, engine: Engine, keys: KeyMode | None = None, tracing: Tracing | None = None
) -> FastAPI:
    """Return the ASGI application that serves the project from `engine`, and closes it at the end.

    `keys` says when a request needs one, in place of what the project says; `tracing` where traces go, in place of what
    the environment says.
    """
    current = LiveProject(project)
    quota_store = QuotaStore(current)
    tracing = tracing or tracing_from_environment()
    measured = Metrics(current, lambda: engine.status)
    settings = project.config.serving
    drain = Drain()
    catalog, providers = Catalog(current, engine), Providers(current, measured)
    cached = CachedEngine(engine, make_store(project), catalog.base_digest)
    answers, router = RecentAnswers(current), LiveRouter(project)
    services = Services(current, engine, cached, catalog, measured, answers, providers, router, drain)
    app = FastAPI(
        title="Quintet",
        version=__version__,
        summary=f"The department experts of {project.config.company}.",
        lifespan=_lifespan(services, cached, quota_store, tracing),
        responses=FAILED,
        docs_url=None,  # `web.api_reference` has it, without the scripts of another host
        redoc_url=None,
    )
    app.state.services = services
    for route in (
        status, page, api_reference, metrics, admin, openai, experts, feedback, conversations, files, mcp, departments,
    ):  # fmt: skip
        app.include_router(route.router)
    add_error_handlers(app)
    app.add_middleware(BodyLimit, most=settings.max_body, seconds=settings.client_seconds)
    app.add_middleware(Authentication, authenticator=Authenticator(current, keys or settings.keys, quota_store))
    app.add_middleware(DrainMiddleware, drain=drain)
    app.add_middleware(UnexpectedErrors)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", *request_log.HEADERS, *quota.HEADERS, *routing_headers.HEADERS],
        )
    observers = [
        services.answers.remember,
        log_request,
        measured.count_rejection,
        *([tracing.trace] if tracing else []),
    ]
    app.add_middleware(request_log.RequestLog, observers=observers)
    return app


def _lifespan(
    services: Services, cached: CachedEngine, quota_store: QuotaStore, tracing: Tracing | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(held_open(services.project))
            except QuintetError as error:
                logger.warning("%s", error)
            await _load_default_model(services)
            forgetting = asyncio.create_task(services.answers.forget_regularly())
            yield
            forgetting.cancel()
            await cached.close()
            await services.providers.close()
            await quota_store.close()
            await services.answers.close()
            if tracing:
                await asyncio.to_thread(tracing.close)

    return lifespan


async def _load_default_model(services: Services) -> None:
    """Load what the project names; a server whose default is not ready yet still serves the others."""
    name = services.project.config.serving.default_model
    if name is None:
        return
    try:
        await services.catalog.warm(name)
    except (ModelError, RegistryError) as error:
        logger.warning("serving.default_model %r is not loaded: %s", name, error)
