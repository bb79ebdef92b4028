"""Fallback: asks those who can answer in their order, until one does.

What is wrong with the question is wrong for all of them, and so is a key that has used up its budget, and a server that
ends: then nobody else is asked. Nor is anybody once a piece was passed on.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

from quintet.errors import BudgetError, ModelError, QuintetError, RequestError, StoppingError
from quintet.serving.answer import Answer, Answerer, Piece

logger = logging.getLogger("quintet.server")

NOBODY_ELSE = (RequestError, BudgetError, StoppingError)
MakeAnswer = Callable[[], Awaitable[Answer]]


class FirstAnswer(Answer):
    """Asks one after the other, in the order of `sources`, until a piece of an answer comes."""

    def __init__(
        self, department: str, sources: Mapping[str, MakeAnswer], count: int, fell_back: Callable[[str, str], None]
    ) -> None:
        self._department = department
        self._sources = sources
        self._count = count
        self._fell_back = fell_back
        self._answer: Answer | None = None

    @property
    def count(self) -> int:
        """How many choices there are."""
        return self._count

    @property
    def answerer(self) -> Answerer:
        """Who gives it, or is asked last."""
        return self._answer.answerer if self._answer else Answerer()

    @property
    def prompt_tokens(self) -> int:
        """How many tokens went in, of the answer that came."""
        return self._answer.prompt_tokens if self._answer else 0

    @property
    def completion_tokens(self) -> int:
        """How many tokens have come out."""
        return self._answer.completion_tokens if self._answer else 0

    @property
    def is_cached(self) -> bool:
        """Whether the answer that came was there before it was asked for."""
        return self._answer is not None and self._answer.is_cached

    async def pieces(self, *, as_whole: bool = False) -> AsyncGenerator[Piece]:
        """Yield the pieces of the first who has any; raise what the last one raised, or what waiting may mend."""
        errors: list[Exception] = []
        for source, make in self._sources.items():
            has_begun = False
            try:
                self._answer = await make()
                if errors:
                    self._fell_back(self._department, source)
                async with aclosing(self._answer.pieces(as_whole=as_whole)) as pieces:
                    async for piece in pieces:
                        has_begun = True
                        yield piece
                return
            except NOBODY_ELSE:
                raise
            except Exception as error:
                if has_begun:
                    raise
                errors.append(error)
                if not isinstance(error, QuintetError):
                    logger.error("%s failed department %r, unexpectedly", source, self._department, exc_info=error)
        raise next((error for error in reversed(errors) if not isinstance(error, ModelError)), errors[-1])
