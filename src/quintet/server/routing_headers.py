"""Headers that say where a question went."""

from typing import TYPE_CHECKING

from quintet.router.routing import Routing

if TYPE_CHECKING:
    pass

DEPARTMENT, PROBABILITY, RUNNER_UP = "x-quintet-department", "x-quintet-probability", "x-quintet-runner-up"


HEADERS = (DEPARTMENT, PROBABILITY, RUNNER_UP)


DIGITS = 3


def routing_headers(routing: Routing) -> dict[str, str]:
    """Return what the headers of an answer say of where its question went."""
    headers = {}
    if routing.department is not None:
        headers = {DEPARTMENT: routing.department, PROBABILITY: f"{routing.ranked[0].probability:.{DIGITS}f}"}
    if routing.runner_up is not None:
        headers[RUNNER_UP] = routing.runner_up.department
    return headers
