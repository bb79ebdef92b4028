"""Live router: the project's router, loaded again when its file has changed."""

import logging
import threading
from typing import TYPE_CHECKING

from quintet.config import Project
from quintet.errors import NoRouterError
from quintet.router.router import Router, router_path
from quintet.router.shared import SharedRouter

if TYPE_CHECKING:
    pass

logger = logging.getLogger("quintet.server")


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
