"""What a route is given: the services, as its caller may see them."""

from typing import Annotated

from fastapi import Depends, Request

from quintet.server.middleware.auth import Called
from quintet.serving.services import Services


def _services(request: Request, caller: Called) -> Services:
    services: Services = request.app.state.services
    return services.seen_by(caller)


Served = Annotated[Services, Depends(_services)]
