"""The name `auto`: each question goes to the department that it is for, of those that its caller sees.

Knows nothing of how a department is recognised, nor of how it answers.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from quintet.config import Project
from quintet.errors import NoRouterError
from quintet.router.router import Router, router_path
from quintet.router.routing import Routing, route
from quintet.router.shared import SharedRouter
from quintet.server.answer import Answer, Answerer, Piece

if TYPE_CHECKING:
    from quintet.server.services import Services

logger = logging.getLogger("quintet.server")

AUTO = "auto"
DEPARTMENT, PROBABILITY, RUNNER_UP = "x-quintet-department", "x-quintet-probability", "x-quintet-runner-up"
HEADERS = (DEPARTMENT, PROBABILITY, RUNNER_UP)
DIGITS = 3


class LiveRouter:
    """The project's router, read anew when its file has changed; one that is damaged does not replace another."""

    def __init__(self, project: Project) -> None:
        self._shared = SharedRouter(project)
        self._path = router_path(project)
        self._lock = threading.Lock()
        self._read_from: tuple[int, int, int] | None = None
        self._router: Router | None = None

    def current(self) -> Router:
        """Return the router; raise NoRouterError when there is none."""
        self._shared.refresh()
        with self._lock:
            state = self._state()
            if state != self._read_from:
                self._router, self._read_from = self._read(state), state
            return self._router or Router.load(self._path)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self, state: tuple[int, int, int] | None) -> Router | None:
        """Return the router in the file, or for a damaged one the one that is there already."""
        if state is None:
            return None
        try:
            return Router.load(self._path)
        except NoRouterError as error:
            if self._router is not None:
                logger.warning("the router that is in memory stays: %s", error)
            return self._router


async def find_department(served: "Services", turns: Sequence[str]) -> Routing:
    """Return where a question goes, of the departments that are served; `turns` are the user's, the newest first.

    Raises NoRouterError.
    """
    return await asyncio.to_thread(lambda: route(served.router.current(), served.project, turns))


async def finds_anybody(served: "Services") -> bool:
    """Whether there is a router, and it knows a department that is served."""
    try:
        known = (await asyncio.to_thread(served.router.current)).departments
    except NoRouterError:
        return False
    return any(name in known for name in served.project.config.departments)


def routing_headers(routing: Routing) -> dict[str, str]:
    """Return what the headers of an answer say of where its question went."""
    headers = {}
    if routing.department is not None:
        headers = {DEPARTMENT: routing.department, PROBABILITY: f"{routing.ranked[0].probability:.{DIGITS}f}"}
    if routing.runner_up is not None:
        headers[RUNNER_UP] = routing.runner_up.department
    return headers


class NobodysAnswer(Answer):
    """What is said where nobody is asked, to each of `count` choices."""

    count = 1
    answerer = Answerer()
    prompt_tokens = completion_tokens = 0

    def __init__(self, said: str, count: int = 1) -> None:
        self.count = count
        self._said = said

    async def pieces(self, patience: float | None = None) -> AsyncGenerator[Piece | None]:
        """Yield it, whole."""
        for number in range(self.count):
            yield Piece(number, self._said, finish_reason="stop")
