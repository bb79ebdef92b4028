"""The server, assembled: routes, errors and start-up over one engine. Knows nothing of weights or tokens."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from quintet import __version__
from quintet.config import Project
from quintet.engine.base import Engine
from quintet.errors import ModelError, RegistryError
from quintet.server import routes_departments, routes_openai, routes_status
from quintet.server.catalog import Catalog
from quintet.server.error_responses import UnexpectedErrors, add_error_handlers
from quintet.server.services import Services

logger = logging.getLogger("quintet.server")


def create_app(project: Project, engine: Engine) -> FastAPI:
    """Return the ASGI application that serves the project from `engine`, and closes it at the end."""
    services = Services(project, engine, Catalog(project, engine))
    app = FastAPI(
        title="Quintet",
        version=__version__,
        summary=f"The department experts of {project.config.company}.",
        lifespan=_lifespan(services),
    )
    app.state.services = services
    app.include_router(routes_status.router)
    app.include_router(routes_openai.router)
    app.include_router(routes_departments.router)
    add_error_handlers(app)
    app.add_middleware(UnexpectedErrors)
    if origins := project.config.serving.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    return app


def _lifespan(services: Services) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await _load_default_model(services)
        yield
        await services.engine.close()

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
