"""Answers of one choice: what a slow reader gets, and when a request may take its time."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.engine.interface import Request, SamplingParams, Token
from quintet.errors import BusyError
from quintet.messages import Message
from quintet.models.base_model import load_tokenizer
from quintet.server.app import create_app
from quintet.serving.answer import Piece
from quintet.serving.catalog import Model
from quintet.serving.generation import GenerationContext, prepare_answer
from tests.served import ScriptedEngine

HELLO = [Message("user", "Hello?")]


class PilingEngine(ScriptedEngine):
    """Has so many tokens lie ready at once, as an engine has whose reader was away."""

    ready = 3

    async def generate(self, request: Request):  # type: ignore[no-untyped-def]
        assert request.progress is not None
        for number, token in enumerate(self.script):
            request.progress.unread = (self.ready - number - 1) % self.ready
            if isinstance(token, Exception):
                raise token
            yield token


async def pieces(engine: ScriptedEngine, base: Path) -> list[Piece]:
    model = Model("base", None, ChatTranslator(load_tokenizer(str(base))))
    answer = await prepare_answer(GenerationContext(engine, deadline=7), model, HELLO, SamplingParams(16, 0))
    came: list[Piece] = []

    async def read() -> None:
        async with aclosing(answer.pieces()) as coming:
            async for piece in coming:
                came.append(piece)  # noqa: PERF401  those before a failure are to be kept

    try:
        await read()
    except BusyError:
        came.append(Piece(0, "BUSY"))
    return came


def test_a_reader_that_keeps_up_gets_each_token(tiny_base: Path) -> None:
    came = asyncio.run(pieces(ScriptedEngine([Token(40), Token(41), Token(42), Token(None, "stop")]), tiny_base))
    assert len([piece for piece in came if piece.text]) == 3


def test_a_reader_that_is_behind_gets_what_waits_as_one_piece(tiny_base: Path) -> None:
    script: list[Token | Exception] = [Token(40), Token(41), Token(42), Token(43), Token(44), Token(45, "length")]
    came = asyncio.run(pieces(PilingEngine(script), tiny_base))
    one_by_one = asyncio.run(pieces(ScriptedEngine(script), tiny_base))
    assert len(came) == 2
    assert "".join(piece.text for piece in came) == "".join(piece.text for piece in one_by_one)


def test_what_came_before_a_failure_is_passed_on(tiny_base: Path) -> None:
    came = asyncio.run(pieces(PilingEngine([Token(40), Token(41), BusyError("gone")]), tiny_base))
    first = asyncio.run(pieces(ScriptedEngine([Token(40), Token(41, "length")]), tiny_base))
    assert [piece.text for piece in came] == ["".join(piece.text for piece in first), "BUSY"]


def test_every_request_has_the_time_that_the_context_gives_it(tiny_base: Path) -> None:
    engine = ScriptedEngine([Token(None, "stop")])
    asyncio.run(pieces(engine, tiny_base))
    assert [request.timeout for request in engine.requests] == [7]


def test_the_server_gives_each_request_its_deadline(project: Project) -> None:
    app = create_app(project, ScriptedEngine([]))
    assert app.state.services.generation_context.deadline == project.config.serving.deadline_seconds


@pytest.mark.parametrize(("stop", "kind"), [((), "final"), (("x",), "delta")])
def test_a_whole_answer_is_handed_over_at_its_end_unless_a_stop_string_may_end_it(
    tiny_base: Path, stop: tuple[str, ...], kind: str
) -> None:
    async def ask() -> None:
        model = Model("base", None, ChatTranslator(load_tokenizer(str(tiny_base))))
        answer = await prepare_answer(GenerationContext(engine), model, HELLO, SamplingParams(4, 0), stop)
        await answer.whole()

    engine = ScriptedEngine([Token(40), Token(None, "stop")])
    asyncio.run(ask())
    assert [request.output_kind for request in engine.requests] == [kind]
