"""When those who are sent away may come back, and answers that take too long."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from quintet.engine.interface import EngineStatus, Request, Sampling, Token
from quintet.errors import BusyError, StoppingError
from quintet.serving.drain import Drain
from quintet.serving.engines.queued import LONGEST_SECONDS, Line, QueuedEngine
from tests.server.conftest import ScriptedEngine

ASKED = Request((1,), (), Sampling(10_000))
ENDLESS: list[Token | Exception] = [Token(40)] * 10_000


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def line_where_places_become_free_every(seconds: float, clock: Clock) -> Line:
    line = Line(clock)
    for _ in range(20):
        line.note_free()
        clock.now += seconds
    return line


def test_each_of_those_who_are_sent_away_is_promised_a_place_of_its_own() -> None:
    line = line_where_places_become_free_every(2.0, Clock())
    assert [line.promise() for _ in range(4)] == [2, 4, 6, 8]


def test_where_places_become_free_faster_more_may_come_back_at_a_time() -> None:
    line = line_where_places_become_free_every(0.25, Clock())
    assert [line.promise() for _ in range(8)] == [1] * 4 + [2] * 4


def test_promises_are_kept_as_time_goes_by() -> None:
    clock = Clock()
    line = line_where_places_become_free_every(1.0, clock)
    assert [line.promise() for _ in range(10)][-1] == 10
    for _ in range(8):
        clock.now += 1
        line.note_free()
    assert line.promise() == 3


def test_when_nothing_becomes_free_any_more_the_wait_grows() -> None:
    clock = Clock()
    line = line_where_places_become_free_every(0.1, clock)
    clock.now += 40
    assert line.promise() >= 2


def test_plenty_of_room_ends_all_promises() -> None:
    line = line_where_places_become_free_every(2.0, Clock())
    assert [line.promise() for _ in range(30)][-1] == 60
    line.forget_promises()
    assert line.promise() == 2


def test_nobody_is_sent_away_for_longer_than_they_would_believe() -> None:
    line = line_where_places_become_free_every(30, Clock())
    assert [line.promise() for _ in range(30)][-1] == LONGEST_SECONDS


class Full(ScriptedEngine):
    """Has as many waiting as may."""

    @property
    def status(self) -> EngineStatus:
        return replace(super().status, waiting=64)


async def ask(engine: QueuedEngine, request: Request = ASKED) -> list[Token]:
    return [token async for token in engine.generate(request)]


def test_refusals_of_a_full_engine_say_when_to_come_back_one_after_the_other() -> None:
    engine = QueuedEngine(Full([BusyError("full")]), Drain())

    async def refused() -> int | None:
        with pytest.raises(BusyError) as caught:
            await ask(engine)
        return caught.value.retry_after

    async def all_refused() -> list[int | None]:
        return [await refused() for _ in range(3)]

    assert asyncio.run(all_refused()) == [1, 2, 3]


def test_every_request_has_the_time_that_the_server_gives_it() -> None:
    inner = ScriptedEngine([Token(None, "stop")])
    asyncio.run(ask(QueuedEngine(inner, Drain(), seconds=7)))
    assert [request.timeout for request in inner.requests] == [7]


def test_answers_that_are_cut_short_free_the_engine_and_those_that_come_later_do_not_begin() -> None:
    async def cut() -> None:
        inner, drain = ScriptedEngine(ENDLESS, pause=10), Drain()
        engine = QueuedEngine(inner, drain)
        answers = [asyncio.create_task(ask(engine)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inner.running == 2
        drain.cut()
        for answer in answers:
            with pytest.raises(StoppingError):
                await answer
        assert inner.running == 0
        with pytest.raises(StoppingError):
            await ask(engine)

    asyncio.run(cut())


class TimingOut(ScriptedEngine):
    """Runs into a timeout of its own."""

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        async for _ in super().generate(request):
            raise TimeoutError
        yield Token(1)


def test_a_timeout_of_the_engines_own_is_none_of_the_servers() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(ask(QueuedEngine(TimingOut([Token(40)]), Drain())))
