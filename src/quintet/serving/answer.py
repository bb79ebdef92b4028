"""Answer: pieces of text of one choice or several, and who gives it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from quintet.engine.interface import FinishReason

Ended = FinishReason | Literal["content_filter"]
"""Why a choice ended: a model elsewhere may have a filter that ends it."""


@dataclass(frozen=True)
class SaidToken:
    """A token as the bytes that it adds, its log probability, and the likeliest in its place."""

    written: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True)
class Call:
    """A function that is called, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Piece:
    """What came of a choice: text, its tokens where their probabilities are asked for, and at its end calls and why."""

    choice: int
    text: str
    tokens: tuple[SaidToken, ...] = ()
    calls: tuple[Call, ...] = ()
    finish_reason: Ended | None = None


@dataclass(frozen=True)
class Answerer:
    """Who gives an answer: an expert by its version, a provider and its model as in `cloud/gpt`, or the bare base."""

    expert: str | None = None
    provider: str | None = None
    model: str | None = None


class Answer(ABC):
    """The choices to one or more prompts, side by side."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many choices there are."""

    @property
    @abstractmethod
    def answerer(self) -> Answerer:
        """Who gives it; certain from the first piece on."""

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """How many tokens went in; the choices to one prompt share it."""

    @property
    @abstractmethod
    def completion_tokens(self) -> int:
        """How many tokens have come out so far."""

    @property
    def is_cached(self) -> bool:
        """Whether all of it was there before it was asked for."""
        return False

    @abstractmethod
    def pieces(self, *, as_whole: bool = False) -> AsyncGenerator[Piece]:
        """Yield the pieces of all choices as they come; with `as_whole`, they may all come at the end.

        The first failure of a choice is that of the whole. Closing the generator frees whatever works on it.
        """

    async def whole(self) -> list[Piece]:
        """Return each choice in one piece."""
        parts: list[list[Piece]] = [[] for _ in range(self.count)]
        async with aclosing(self.pieces(as_whole=True)) as pieces:
            async for piece in pieces:
                parts[piece.choice].append(piece)
        wholes = [_joined(number, of_one) for number, of_one in enumerate(parts)]
        return [replace(piece, finish_reason=piece.finish_reason or "stop") for piece in wholes]


def _joined(number: int, pieces: Sequence[Piece]) -> Piece:
    text = "".join(piece.text for piece in pieces)
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    calls = tuple(call for piece in pieces for call in piece.calls)
    reasons = [piece.finish_reason for piece in pieces if piece.finish_reason]
    return Piece(number, text, tokens, calls, reasons[-1] if reasons else None)


async def merge(sources: Sequence[AsyncGenerator[Piece]]) -> AsyncGenerator[Piece]:
    """Yield what several sources yield as it comes, each source run by a task of its own.

    What came of a choice since the last time is one piece, so that a slow reader has less to do for each token. Raises
    the first failure of any; closing the generator cancels them all.
    """
    news: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_pass_on(source, news)) for source in sources]
    running = len(tasks)
    try:
        while running:
            items = [await news.get()]
            while not news.empty():
                items.append(news.get_nowait())
            running -= items.count(None)
            # Pieces of one choice that follow each other become one.
            for choice, group in groupby((item for item in items if item is not None), _choice_of):
                pieces = [item for item in group if isinstance(item, Piece)]
                if choice is None:
                    raise next(item for item in items if isinstance(item, Exception))
                yield pieces[0] if len(pieces) == 1 else _joined(choice, pieces)
    finally:
        for task in tasks:
            task.cancel()
        # Not gathered: a reader that is cancelled while it waits would cancel them again, in the middle of closing.
        await asyncio.wait(tasks)


def _choice_of(item: Piece | Exception) -> int | None:
    return item.choice if isinstance(item, Piece) else None


async def _pass_on(source: AsyncGenerator[Piece], news: asyncio.Queue[Piece | Exception | None]) -> None:
    try:
        async with aclosing(source) as pieces:
            async for piece in pieces:
                news.put_nowait(piece)
        news.put_nowait(None)
    except Exception as error:
        news.put_nowait(error)
