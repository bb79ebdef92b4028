"""When an answer is given again, when it is computed, for whom, and what becomes of it when somebody leaves."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quintet.engine.interface import Adapter, CacheOutcome, Progress, Request, SamplingParams, Token
from quintet.errors import DeadlineError
from quintet.serving.response_cache.cached_engine import CachedEngine
from quintet.serving.response_cache.entry import pack
from quintet.serving.response_cache.store import MemoryStore, Store
from tests.served import ScriptedEngine

ANSWER = [Token(40, None, -0.5, ((40, -0.5),)), Token(41, None, -0.25, ((41, -0.25),)), Token(None, "stop", -1.0)]
GREEDY = Request((1, 2), (0,), SamplingParams(temperature=0), department="hr")


class SteppedEngine(ScriptedEngine):
    """Says the next token of its script when it is told to, or fails."""

    def __init__(self, script: list[Token | Exception]) -> None:
        super().__init__(script)
        self.steps = asyncio.Semaphore(0)

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        self.requests.append(request)
        self.running += 1
        try:
            for token in self.script:
                await self.steps.acquire()
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            self.running -= 1

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.steps.release()


class ForgetfulStore:
    """Is asked, and has nothing."""

    def __init__(self) -> None:
        self.puts = 0

    async def get(self, key: str) -> bytes | None:
        return None

    async def put(self, key: str, value: bytes) -> None:
        self.puts += 1

    async def close(self) -> None:
        pass


def cached(engine: ScriptedEngine, store: Store | None = None, base: str = "base digest") -> CachedEngine:
    return CachedEngine(engine, MemoryStore(100_000, 60) if store is None else store, lambda: base)


async def ask(
    engine: CachedEngine, request: Request = GREEDY, read: int = 99
) -> tuple[list[Token], CacheOutcome | None]:
    """Return what comes, or the first tokens of it, and what the cache had to do with it."""
    progress, given = Progress(), []
    async with aclosing(engine.generate(replace(request, progress=progress))) as tokens:
        async for token in tokens:
            given.append(token)
            if len(given) == read:
                break
    return given, progress.cache


async def settle() -> None:
    """Let everything come to where it waits for something else; the base's digest comes from a thread."""
    for _ in range(3):
        await asyncio.to_thread(lambda: None)
        for _ in range(10):
            await asyncio.sleep(0)


def within_seconds(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 5))


def test_what_was_answered_is_answered_again_alike_and_not_computed() -> None:
    async def run() -> None:
        engine = ScriptedEngine([*ANSWER])
        front = cached(engine)
        assert await ask(front) == (ANSWER, "miss")
        assert await ask(front) == (ANSWER, "hit")
        assert len(engine.requests) == 1

    within_seconds(run())


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": Adapter("another release", Path("here"))},
        {"prompt_ids": (1, 3)},
        {"sampling": SamplingParams(temperature=0, max_tokens=2)},
        {"department": "finance"},
    ],
)
def test_what_is_another_question_is_computed(change: dict[str, Any]) -> None:
    async def run() -> None:
        front = cached(ScriptedEngine([*ANSWER]))
        await ask(front)
        assert (await ask(front, replace(GREEDY, **change)))[1] == "miss"

    within_seconds(run())


def test_a_shared_store_never_answers_from_another_base_precision_or_context() -> None:
    async def run() -> None:
        store = MemoryStore(100_000, 60)
        engines = [ScriptedEngine([*ANSWER]) for _ in range(4)]
        engines[2].device = replace(engines[2].device, dtype="int8")
        engines[3].context_length = 128
        fronts = [cached(engine, store, base) for engine, base in zip(engines, "abaa", strict=True)]
        assert [(await ask(front))[1] for front in fronts] == ["miss"] * 4

    within_seconds(run())


def test_what_is_drawn_without_a_seed_is_computed_each_time() -> None:
    async def run() -> None:
        engine = ScriptedEngine([*ANSWER])
        front, drawn = cached(engine), replace(GREEDY, sampling=SamplingParams(temperature=0.7))
        assert [(await ask(front, drawn))[1] for _ in range(2)] == ["bypass"] * 2
        assert len(engine.requests) == 2

    within_seconds(run())


def test_without_a_store_all_is_the_engines_affair() -> None:
    async def run() -> None:
        front = CachedEngine(ScriptedEngine([*ANSWER]), None, lambda: "base")
        assert [await ask(front) for _ in range(2)] == [(ANSWER, None)] * 2

    within_seconds(run())


def test_who_wants_nothing_stored_is_neither_answered_from_the_store_nor_kept_there() -> None:
    async def run() -> None:
        engine = ScriptedEngine([*ANSWER])
        front = cached(engine)
        assert (await ask(front, replace(GREEDY, cache="bypass")))[1] == "bypass"
        assert (await ask(front))[1] == "miss"
        assert (await ask(front, replace(GREEDY, cache="bypass")))[1] == "bypass"
        assert len(engine.requests) == 3

    within_seconds(run())


def test_who_wants_it_computed_has_it_computed_and_leaves_it_for_others() -> None:
    async def run() -> None:
        engine = ScriptedEngine([*ANSWER])
        front = cached(engine)
        assert (await ask(front, replace(GREEDY, cache="refresh")))[1] == "bypass"
        assert (await ask(front))[1] == "hit"
        assert (await ask(front, replace(GREEDY, cache="refresh")))[1] == "bypass"
        assert len(engine.requests) == 2

    within_seconds(run())


def test_who_wants_it_computed_does_not_wait_for_anothers() -> None:
    async def run() -> None:
        engine = SteppedEngine([*ANSWER])
        front = cached(engine)
        first = asyncio.create_task(ask(front))
        await settle()
        second = asyncio.create_task(ask(front, replace(GREEDY, cache="refresh")))
        await settle()
        assert engine.running == 2
        engine.step(6)
        assert [(await first)[1], (await second)[1]] == ["miss", "bypass"]

    within_seconds(run())


def test_what_is_asked_by_many_at_once_is_computed_once() -> None:
    async def run() -> None:
        engine = SteppedEngine([*ANSWER])
        front = cached(engine)
        asking = [asyncio.create_task(ask(front)) for _ in range(20)]
        await settle()
        engine.step(2)
        await settle()
        asking.append(asyncio.create_task(ask(front)))
        await settle()
        engine.step()
        answers = await asyncio.gather(*asking)
        assert [answer for answer, _ in answers] == [ANSWER] * 21
        assert sorted(outcome or "" for _, outcome in answers) == ["hit"] * 20 + ["miss"]
        assert len(engine.requests) == 1

    within_seconds(run())


def test_when_the_first_of_them_leaves_the_others_go_on() -> None:
    async def run() -> None:
        engine = SteppedEngine([*ANSWER])
        front = cached(engine)
        first, second = (asyncio.create_task(ask(front)) for _ in range(2))
        await settle()
        engine.step()
        await settle()
        first.cancel()
        await settle()
        engine.step(2)
        assert (await second)[0] == ANSWER
        assert (await ask(front))[1] == "hit"
        assert len(engine.requests) == 1

    within_seconds(run())


def test_when_the_last_of_them_leaves_the_engine_is_free_and_nothing_is_kept() -> None:
    async def run() -> None:
        engine, store = SteppedEngine([*ANSWER]), ForgetfulStore()
        front = cached(engine, store)
        asking = [asyncio.create_task(ask(front)) for _ in range(3)]
        await settle()
        engine.step()
        await settle()
        assert engine.running == 1
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert (engine.running, store.puts) == (0, 0)
        engine.step(3)
        assert (await ask(front))[1] == "miss"

    within_seconds(run())


def test_a_failure_is_not_kept_and_not_shared_by_those_who_waited() -> None:
    async def run() -> None:
        engine, store = SteppedEngine([*ANSWER[:1], DeadlineError("too late")]), ForgetfulStore()
        front = cached(engine, store)
        asking = [asyncio.create_task(ask(front)) for _ in range(5)]
        await settle()
        engine.step()
        await settle()
        failing, engine.script = engine.script, [*ANSWER]
        engine.step()
        await settle()
        engine.step(3)
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(results[0], DeadlineError)
        assert results[1:] == [(ANSWER, "miss"), *[(ANSWER, "hit")] * 3] or results[1:] == [(ANSWER, "miss")] * 4
        assert (len(failing), len(engine.requests), store.puts) == (2, 2, 1)

    within_seconds(run())


def test_what_fails_twice_fails_for_all_and_is_not_tried_by_each() -> None:
    async def run() -> None:
        engine = SteppedEngine([DeadlineError("too late")])
        front = cached(engine)
        asking = [asyncio.create_task(ask(front)) for _ in range(5)]
        await settle()
        engine.step(9)
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(result, DeadlineError) for result in results)
        assert len(engine.requests) == 2

    within_seconds(run())


def test_an_answer_that_its_reader_stops_is_kept_as_far_as_it_was_read() -> None:
    async def run() -> None:
        engine = SteppedEngine([*ANSWER])
        front, stopped = cached(engine), replace(GREEDY, stop=("\n",))
        engine.step(2)
        assert await ask(front, stopped, read=2) == (ANSWER[:2], "miss")
        assert engine.running == 0
        await settle()
        assert await ask(front, stopped, read=2) == (ANSWER[:2], "hit")
        assert len(engine.requests) == 1

    within_seconds(run())


def test_whoever_reads_further_than_what_was_kept_has_the_rest_computed() -> None:
    async def run() -> None:
        engine = ScriptedEngine([*ANSWER])
        front, stopped = cached(engine), replace(GREEDY, stop=("\n",))
        await ask(front, stopped, read=1)
        await settle()
        assert (await ask(front, stopped))[0] == ANSWER
        await settle()
        assert await ask(front, stopped) == (ANSWER, "hit")
        assert len(engine.requests) == 2

    within_seconds(run())


def test_without_stop_strings_half_an_answer_is_not_kept() -> None:
    async def run() -> None:
        store = ForgetfulStore()
        await ask(cached(ScriptedEngine([*ANSWER]), store), read=1)
        await settle()
        assert store.puts == 0

    within_seconds(run())


@pytest.mark.parametrize("data", [b"nonsense", pack("of another question", [Token(66), Token(None, "stop")])])
def test_a_store_that_says_nonsense_is_not_believed(data: bytes) -> None:
    class Nonsense(ForgetfulStore):
        async def get(self, key: str) -> bytes | None:
            return data

    async def run() -> None:
        assert await ask(cached(ScriptedEngine([*ANSWER]), Nonsense())) == (ANSWER, "miss")

    within_seconds(run())


def test_what_is_being_kept_is_kept_before_the_engine_is_closed() -> None:
    class Slow(ForgetfulStore):
        async def put(self, key: str, value: bytes) -> None:
            await asyncio.sleep(0.01)
            await super().put(key, value)

    async def run() -> None:
        store = Slow()
        front = cached(ScriptedEngine([*ANSWER]), store)
        await ask(front)
        await front.close()
        assert store.puts == 1

    within_seconds(run())
