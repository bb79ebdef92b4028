"""An engine whose answers are timed and counted. Knows nothing of what is said, nor of who sees the numbers."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from quintet.config import BASE
from quintet.engine.base import Engine, Request, Token
from quintet.server.recording import Generation, note_generation
from quintet.server.wrapped_engine import WrappedEngine


class GenerationObserver(Protocol):
    """Sees each answer of the engine as it comes."""

    def begun(self, generation: Generation) -> None:
        """See that it was asked for."""

    def token(self, generation: Generation, token: Token, before: float | None) -> None:
        """See that a token came; `before` is when the one before it did."""

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
        note_generation(generation)
        self._observer.begun(generation)
        try:
            async with aclosing(self._engine.generate(replace(request, progress=generation.progress))) as tokens:
                async for token in tokens:
                    self._take(generation, token)
                    yield token
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
            self._observer.ended(generation)

    def _take(self, generation: Generation, token: Token) -> None:
        before, now = generation.last_token, time.monotonic()
        generation.last_token = now
        generation.first_token = now if before is None else generation.first_token
        generation.tokens += token.id is not None
        generation.reason = token.finish_reason
        self._observer.token(generation, token, before)
