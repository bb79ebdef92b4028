"""The model `auto`: the router picks the department, of those that the caller may ask.

Knows nothing of how a department is recognised, nor of how it answers.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from quintet.errors import NoRouterError
from quintet.router.routing import Routing, route
from quintet.serving.answer import Answer, Answerer, Piece

if TYPE_CHECKING:
    from quintet.serving.services import Services


AUTO = "auto"


async def find_department(ctx: "Services", turns: Sequence[str]) -> Routing:
    """Return where a question goes, of the departments that are served; `turns` are the user's, the newest first.

    Raises NoRouterError.
    """
    return await asyncio.to_thread(lambda: route(ctx.router.current(), ctx.project, turns))


async def finds_anybody(ctx: "Services") -> bool:
    """Whether there is a router, and it knows a department that is served."""
    try:
        known = (await asyncio.to_thread(ctx.router.current)).departments
    except NoRouterError:
        return False
    return any(name in known for name in ctx.project.config.departments)


class NobodysAnswer(Answer):
    """What is said where nobody is asked, to each of `count` choices."""

    count = 1
    answerer = Answerer()
    prompt_tokens = completion_tokens = 0

    def __init__(self, said: str, count: int = 1) -> None:
        self.count = count
        self._said = said

    async def pieces(self, *, as_whole: bool = False) -> AsyncGenerator[Piece]:
        """Yield it, whole."""
        for number in range(self.count):
            yield Piece(number, self._said, finish_reason="stop")
