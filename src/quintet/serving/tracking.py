"""Times and counts one generation, and shows it to an observer such as the metrics."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from quintet.engine.interface import FinishReason
from quintet.serving.request_record import Generation, note_generation


class GenerationObserver(Protocol):
    """Sees each generation as it comes."""

    def begun(self, generation: Generation) -> None:
        """See that it was asked for."""

    def token(self, generation: Generation, tokens: int, before: float | None) -> None:
        """See that a part of it came, of so many tokens; `before` is when the part before it did."""

    def ended(self, generation: Generation) -> None:
        """See its end, of whatever kind."""


class Tracker:
    """Notes in a generation's record what comes of it."""

    def __init__(self, generation: Generation, observer: GenerationObserver | None) -> None:
        self._generation = generation
        self._observer = observer

    def add(self, tokens: int, reason: FinishReason | None, at: float | None = None) -> None:
        """Note that a part came, of so many tokens, when, and why it was the last, if it was."""
        generation = self._generation
        before, now = generation.last_token, time.monotonic() if at is None else at
        if before is None:
            generation.first_token = now
        generation.last_token = now
        generation.tokens += tokens
        generation.reason = reason
        if self._observer:
            self._observer.token(generation, tokens, before)


@contextmanager
def track(generation: Generation, observer: GenerationObserver | None) -> Iterator[Tracker]:
    """Keep a generation in its request's record, and show it to the observer from its start to its end.

    Its times are those at which the engine chose the tokens, where it says so, else those of their reader.
    """
    note_generation(generation)
    if observer:
        observer.begun(generation)
    try:
        yield Tracker(generation, observer)
    except asyncio.CancelledError:
        generation.reason = generation.reason or "abort"
        raise
    except GeneratorExit:
        # The reader has had enough, as after a stop string.
        generation.reason = generation.reason or "stop"
        raise
    except Exception:
        generation.reason = "error"
        raise
    finally:
        generation.ended = time.monotonic()
        if observer:
            observer.ended(generation)
