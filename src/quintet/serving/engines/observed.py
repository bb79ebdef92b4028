"""Answers that are timed and counted. Knows nothing of what is said, nor of who sees the numbers."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Protocol

from quintet.config import BASE
from quintet.engine.interface import Engine, FinishReason, Request, Token
from quintet.serving.engines.wrapper import WrappedEngine
from quintet.serving.request_record import Generation, note_generation


class GenerationObserver(Protocol):
    """Sees each answer as it comes."""

    def begun(self, generation: Generation) -> None:
        """See that it was asked for."""

    def token(self, generation: Generation, tokens: int, before: float | None) -> None:
        """See that a part of it came, of so many tokens; `before` is when the one before it did."""

    def ended(self, generation: Generation) -> None:
        """See its end, of whatever kind."""


class ObservedEngine(WrappedEngine):
    """An engine that is observed; the times are those at which an answer's reader has its tokens."""

    def __init__(self, engine: Engine, observer: GenerationObserver) -> None:
        super().__init__(engine)
        self._observer = observer

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token."""
        generation = Generation(request.department or BASE, len(request.prompt_ids))
        with observed(generation, self._observer):
            async with aclosing(self._engine.generate(replace(request, progress=generation.progress))) as tokens:
                async for token in tokens:
                    take(generation, self._observer, int(token.id is not None), token.finish_reason)
                    yield token


@contextmanager
def observed(generation: Generation, observer: GenerationObserver) -> Iterator[None]:
    """Show an answer to an observer, from its beginning to whatever end it has."""
    note_generation(generation)
    observer.begun(generation)
    try:
        yield
    except asyncio.CancelledError:
        generation.reason = generation.reason or "abort"
        raise
    except GeneratorExit:
        # Its reader has had enough, as after a stop string.
        generation.reason = generation.reason or "stop"
        raise
    except Exception:
        generation.reason = "error"
        raise
    finally:
        generation.ended = time.monotonic()
        observer.ended(generation)


def take(generation: Generation, observer: GenerationObserver, tokens: int, reason: FinishReason | None) -> None:
    """Note that a part of an answer came, of so many tokens, and why it was the last, if it was."""
    before, now = generation.last_token, time.monotonic()
    generation.last_token = now
    generation.first_token = now if before is None else generation.first_token
    generation.tokens += tokens
    generation.reason = reason
    observer.token(generation, tokens, before)
