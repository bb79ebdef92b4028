"""Who answered which request, for a while, and what is kept longer. Knows nothing of who asked.

The last answers of each department are known to the process that gave them; those that the department keeps, to every
server of the registry. One department's flood pushes out nobody else's.
"""

import asyncio
import logging
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from quintet.config import Project
from quintet.errors import QuintetError, UnknownRequestError
from quintet.registry.feedback import Answered, find_kept, forget_old, keep_request
from quintet.server.recording import RequestRecord

logger = logging.getLogger("quintet.server")

RECENT = 1000
FORGETTING_SECONDS = 3600


class RecentAnswers:
    """Remembers who answered the last requests of each department."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._recent: dict[str, OrderedDict[str, tuple[float, Answered]]] = {}
        self._under_way: set[asyncio.Task[Any]] = set()

    def remember(self, record: RequestRecord) -> None:
        """Remember who answered a request that was answered, and keep it where its department says so."""
        if record.department is None or record.problem is not None or record.status != 200:
            return
        expert = record.expert
        version, digest = (expert.version, expert.digest) if expert else (None, None)
        answered = Answered(record.id, record.department, version, digest)
        recent = self._recent.setdefault(record.department, OrderedDict())
        recent[record.id] = (record.ended, answered)
        recent.move_to_end(record.id)
        if len(recent) > RECENT:
            recent.popitem(last=False)
        section = self._project.config.departments.get(record.department)
        # Of several answers to one question, feedback would not say which it is about.
        if section and section.keeps_for and record.asked and len(record.answers) == 1:
            self._begin(self._keep(answered, record))

    async def find(self, seen: Project, request_id: str) -> Answered:
        """Return who answered, of the models that are seen; raise UnknownRequestError, whyever it is not known."""
        recent = [self._recent[name] for name in seen.models if name in self._recent]
        of_that_id = [of_one[request_id] for of_one in recent if request_id in of_one]
        found = max(of_that_id, key=lambda one: one[0], default=None)
        answered = found[1] if found else await asyncio.to_thread(find_kept, seen, request_id, seen.models)
        if answered is None:
            raise UnknownRequestError(request_id)
        return answered

    async def _keep(self, answered: Answered, record: RequestRecord) -> None:
        at = datetime.fromtimestamp(record.began_at, UTC)
        try:
            await asyncio.to_thread(keep_request, self._project, answered, record.asked, record.answers[0], at)
        except QuintetError as error:
            logger.warning("request %s of %s is not kept: %s", answered.request_id, answered.department, error)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def forget_regularly(self) -> None:
        """Delete what may not be kept any longer, now and every hour."""
        while True:
            try:
                await asyncio.to_thread(forget_old, self._project, datetime.now(UTC))
            except QuintetError as error:
                logger.warning("what may not be kept any longer is not deleted: %s", error)
            await asyncio.sleep(FORGETTING_SECONDS)

    async def close(self) -> None:
        """Finish keeping what is under way."""
        await asyncio.gather(*self._under_way)
