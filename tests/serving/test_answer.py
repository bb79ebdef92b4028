"""Pieces of several choices, as they come."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from quintet.serving.answer import Piece, merge


async def said(*pieces: Piece) -> AsyncGenerator[Piece]:
    for piece in pieces:
        yield piece


async def one_by_one(*pieces: Piece) -> AsyncGenerator[Piece]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.02)


async def failing(*pieces: Piece) -> AsyncGenerator[Piece]:
    for piece in pieces:
        yield piece
    raise OSError("gone")


def read(sources: Sequence[AsyncGenerator[Piece]]) -> list[Piece]:
    async def all_of_it() -> list[Piece]:
        async with aclosing(merge(sources)) as pieces:
            return [piece async for piece in pieces]

    return asyncio.run(all_of_it())


def test_who_keeps_up_gets_each_piece() -> None:
    pieces = [Piece(0, "a"), Piece(0, "b"), Piece(0, "c", finish_reason="stop")]
    assert read([one_by_one(*pieces)]) == pieces


def test_what_came_meanwhile_is_one_piece() -> None:
    assert read([said(Piece(0, "a"), Piece(0, "b"), Piece(0, "c", finish_reason="length"))]) == [
        Piece(0, "abc", finish_reason="length")
    ]


def test_choices_are_not_mixed() -> None:
    first = said(Piece(0, "a"), Piece(0, "b", finish_reason="stop"))
    second = said(Piece(1, "x"), Piece(1, "y", finish_reason="length"))
    assert read([first, second]) == [Piece(0, "ab", finish_reason="stop"), Piece(1, "xy", finish_reason="length")]


def test_what_came_before_a_failure_is_passed_on() -> None:
    heard = []

    async def listen() -> None:
        async with aclosing(merge([failing(Piece(0, "a"), Piece(0, "b"))])) as pieces:
            heard.append(await anext(pieces))
            await anext(pieces)

    with pytest.raises(OSError, match="gone"):
        asyncio.run(listen())
    assert heard == [Piece(0, "ab")]
