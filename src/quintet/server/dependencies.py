"""What a route is given: the services, as its caller may see them."""

from typing import Annotated

from fastapi import Depends, Request

from quintet.server.middleware.auth import Called
from quintet.serving.services import Services


def _context(request: Request, caller: Called) -> Services:
    services: Services = request.app.state.services
    header = ",".join(request.headers.getlist("cache-control"))
    directives = {one.partition("=")[0].strip().lower() for one in header.split(",")}
    return services.visible_to(
        caller, "bypass" if "no-store" in directives else "refresh" if "no-cache" in directives else "use"
    )


Context = Annotated[Services, Depends(_context)]
