"""Request record: the context of one HTTP request for the access log, metrics and traces.

Code that runs for a request notes what it learns in the record of its context. When the request ends, the observers
read the record: the log, the metrics, the traces. Questions and answers are in it for departments that keep them, and
for no other observer.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from quintet.config import BASE
from quintet.engine.interface import CacheOutcome, Progress
from quintet.messages import Message
from quintet.registry.experts import Expert

EndReason = Literal["stop", "length", "abort", "error"]


@dataclass
class Generation:
    """One answer, the engine's or a provider's: moments in `time.monotonic` seconds, tokens without the end of turn.

    `reason` is None while it is under way, `abort` when its client left, `error` when it failed. `elsewhere` is the
    provider's model, where one answers; its tokens are certain at the end.
    """

    department: str
    prompt_tokens: int
    elsewhere: str | None = None
    arrived: float = field(default_factory=time.monotonic)
    progress: Progress = field(default_factory=Progress)
    first_token: float | None = None
    last_token: float | None = None
    ended: float | None = None
    tokens: int = 0
    reason: EndReason | None = None

    @property
    def began(self) -> float | None:
        """When its first step began; an engine that does not say is taken to begin when it is asked."""
        if self.progress.began is None and self.first_token is not None:
            return self.arrived
        return self.progress.began


@dataclass
class RequestRecord:
    """What is known of one HTTP request; `problem` is the code of the error that it was answered with, if it was."""

    id: str
    method: str
    trace_parent: str | None = None
    began_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    route: str | None = None
    status: int = 500
    problem: str | None = None
    department: str | None = None
    expert: Expert | None = None
    elsewhere: str | None = None
    generations: list[Generation] = field(default_factory=list)
    asked: Sequence[Message] = field(default=(), repr=False)
    answers: list[str] = field(default_factory=list, repr=False)

    @property
    def model(self) -> str | None:
        """The expert's version as in `hr@1`, a provider's model as in `cloud/gpt`, or the bare base: who answered."""
        return self.expert.name if self.expert else self.elsewhere or self.department

    @property
    def cache(self) -> CacheOutcome | None:
        """What the cache had to do with its answers; a hit when all of them were there."""
        outcomes = {one.progress.cache for one in self.generations} - {None}
        return outcomes.pop() if len(outcomes) == 1 else "miss" if outcomes else None

    @property
    def prompt_tokens(self) -> int:
        """Of all its answers."""
        return sum(one.prompt_tokens for one in self.generations)

    @property
    def tokens(self) -> int:
        """Generated, of all its answers."""
        return sum(one.tokens for one in self.generations)


Observer = Callable[[RequestRecord], None]
_current: ContextVar[RequestRecord | None] = ContextVar("quintet_request", default=None)


def current_request() -> RequestRecord | None:
    """Return the record of the request that is being served here, if one is."""
    return _current.get()


@contextmanager
def recorded(record: RequestRecord) -> Iterator[None]:
    """Make a record that of the request that is being served here."""
    token = _current.set(record)
    try:
        yield
    finally:
        _current.reset(token)


def note_model(expert: Expert | None) -> None:
    """Note which expert answers, or that it is the bare base."""
    if record := current_request():
        record.department = expert.department if expert else BASE
        record.expert, record.elsewhere = expert, None


def note_provider(department: str, model: str) -> None:
    """Note which provider's model answers for a department."""
    if record := current_request():
        record.department = department
        record.expert, record.elsewhere = None, model


def note_problem(code: str) -> None:
    """Note the code of the error that a request is answered with."""
    if record := current_request():
        record.problem = code


def note_generation(generation: Generation) -> None:
    """Note that an answer begins."""
    if record := current_request():
        record.generations.append(generation)


def note_question(messages: Sequence[Message]) -> None:
    """Note what is asked."""
    if record := current_request():
        record.asked = messages


def note_answer(text: str) -> None:
    """Note a whole answer."""
    if record := current_request():
        record.answers.append(text)
