"""What a route is given: the services, as its caller may see them."""

from typing import Annotated

from fastapi import Depends, Request

from quintet.engine.interface import CachePolicy
from quintet.server.middleware.auth import Called
from quintet.serving.services import Services


def _services(request: Request, caller: Called) -> Services:
    services: Services = request.app.state.services
    return services.seen_by(caller, _cache_policy(",".join(request.headers.getlist("cache-control"))))


def _cache_policy(header: str) -> CachePolicy:
    """Return what a Cache-Control header lets the response cache do."""
    directives = {one.partition("=")[0].strip().lower() for one in header.split(",")}
    return "bypass" if "no-store" in directives else "refresh" if "no-cache" in directives else "use"


Served = Annotated[Services, Depends(_services)]
