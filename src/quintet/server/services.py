"""What every route needs, and how a route gets it. Knows nothing of what the routes do."""

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from quintet.config import Project
from quintet.engine.base import Engine
from quintet.server.catalog import Catalog


@dataclass(frozen=True)
class Services:
    """The parts that one application is made of."""

    project: Project
    engine: Engine
    catalog: Catalog
    started: int = field(default_factory=lambda: int(time.time()))


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Served = Annotated[Services, Depends(_services)]
