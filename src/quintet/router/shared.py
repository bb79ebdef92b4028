"""The router in the object store: what one machine has learnt, all servers know. Does not know what that is."""

import logging
import threading
import time

from quintet.config import Project
from quintet.errors import QuintetError
from quintet.registry.artifacts import open_store
from quintet.router.router import router_path

logger = logging.getLogger("quintet.server")

FILE = "router.safetensors"
SECONDS = 5.0
"""How long a server goes on with the router that it has before it asks for a new one."""


def share_router(project: Project, *, unless_there: bool = False) -> None:
    """Put the project's router into its object store, if it has one; raise UnreachableError when that fails."""
    store = open_store(project)
    if store is not None and not (unless_there and store.stamp(FILE)):
        store.put(FILE, router_path(project))


class SharedRouter:
    """Keeps the router's file on this machine the same as in the store, where there is a store."""

    def __init__(self, project: Project, seconds: float = SECONDS) -> None:
        self._project = project
        self._seconds = seconds
        self._lock = threading.Lock()
        self._fetched: str | None = None
        self._looks_again = 0.0
        self._is_reached = True

    def refresh(self) -> None:
        """Fetch the router when another was put there; a store that cannot be reached changes nothing, and is told of.

        While one request does so, others go on with what there is, once there is something.
        """
        if self._project.artifacts is None or time.monotonic() < self._looks_again:
            return
        if not self._lock.acquire(blocking=self._fetched is None):
            return
        try:
            if time.monotonic() >= self._looks_again:
                try:
                    store = open_store(self._project)
                    stamp = store.stamp(FILE) if store else None
                    if store and stamp and stamp != self._fetched:
                        store.get(FILE, router_path(self._project))
                        self._fetched = stamp
                    self._is_reached = True
                except QuintetError as error:
                    if self._is_reached:
                        logger.warning("the router is the one that is here already: %s", error)
                    self._is_reached = False
                self._looks_again = time.monotonic() + self._seconds
        finally:
            self._lock.release()
