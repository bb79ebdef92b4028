"""Answer log: who answered the latest requests, for feedback, and what a department keeps longer.

The last answers of each department are known to the process that gave them; those that the department keeps, to every
server of the registry. One department's flood pushes out nobody else's.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from cachetools import LRUCache

from quintet.config import Project
from quintet.errors import QuintetError, UnknownRequestError
from quintet.registry.conversations import forget_conversations
from quintet.registry.feedback import Answered, Opinion, find_kept, forget_old, give_feedback, keep_request
from quintet.serving.background import BackgroundTasks
from quintet.serving.live_project import LiveProject
from quintet.serving.request_record import RequestRecord

logger = logging.getLogger("quintet.server")

Result = TypeVar("Result")
RECENT = 1000
WRITERS = 2
CLOSING_SECONDS = 5
FORGETTING_SECONDS = 3600


class RecentAnswers:
    """Remembers who answered the last requests of each department."""

    def __init__(self, current: LiveProject) -> None:
        self._current = current
        self._recent: dict[str, LRUCache[str, tuple[float, Answered]]] = {}
        # Threads of its own: a database that is locked holds up nothing else.
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="answers")
        self._keeping = BackgroundTasks()

    def remember(self, record: RequestRecord) -> None:
        """Remember who answered a request that was answered, and keep it where its department says so."""
        if record.department is None or record.problem is not None or record.status != 200:
            return
        expert = record.expert
        version, digest = (expert.version, expert.digest) if expert else (None, None)
        answered = Answered(record.id, record.department, version, digest)
        recent = self._recent.setdefault(record.department, LRUCache(RECENT))
        recent[record.id] = (record.ended, answered)
        section = self._current.project.config.departments.get(record.department)
        # Of several answers to one question, feedback would not say which it is about.
        if section and section.keeps_for and record.asked and len(record.answers) == 1:
            if len(self._keeping) >= RECENT:
                logger.warning("request %s is not kept: %d others wait to be", answered.request_id, len(self._keeping))
            else:
                self._keeping.begin(self._keep(answered, record))

    async def find(self, seen: Project, request_id: str) -> Answered:
        """Return who answered, of the models that are seen; raise UnknownRequestError, whyever it is not known."""
        recent = [self._recent[name] for name in seen.models if name in self._recent]
        of_that_id = [of_one[request_id] for of_one in recent if request_id in of_one]
        found = max(of_that_id, key=lambda one: one[0], default=None)
        answered = found[1] if found else await self._use_registry(lambda: find_kept(seen, request_id, seen.models))
        if answered is None:
            raise UnknownRequestError(request_id)
        return answered

    async def rate(self, answered: Answered, opinion: Opinion, key_id: str | None) -> bool:
        """Write down what is thought of an answer; return whether its texts are kept, or it was only counted."""
        return await self._use_registry(lambda: give_feedback(self._current.project, answered, opinion, key_id))

    async def _keep(self, answered: Answered, record: RequestRecord) -> None:
        at, text = datetime.fromtimestamp(record.began_at, UTC), record.answers[0]
        try:
            await self._use_registry(lambda: keep_request(self._current.project, answered, record.asked, text, at))
        except QuintetError as error:
            logger.warning("request %s of %s is not kept: %s", answered.request_id, answered.model, error)

    async def forget_regularly(self) -> None:
        """Delete what may not be kept any longer, now and every hour."""
        while True:
            try:
                await self._use_registry(self._forget)
            except QuintetError as error:
                logger.warning("what may not be kept any longer is not deleted: %s", error)
            await asyncio.sleep(FORGETTING_SECONDS)

    def _forget(self) -> None:
        forget_old(self._current.project, datetime.now(UTC))
        forget_conversations(self._current.project, datetime.now(UTC))

    async def _use_registry(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def settle(self) -> None:
        """Wait until what is to be kept is kept, some seconds at most."""
        await self._keeping.finished(CLOSING_SECONDS)

    async def close(self) -> None:
        """Finish what is under way."""
        await self.settle()
        self._threads.shutdown(wait=False, cancel_futures=True)
