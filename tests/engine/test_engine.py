"""The whole engine over a fake runner: its thread, its readers, and what happens when something goes wrong."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
import torch

from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Engine, Request, SamplingParams, Token
from quintet.engine.types import Chunk, Prepared
from quintet.errors import BusyError, DeadlineError, EngineStoppedError, ModelError, QuintetError, RequestError
from tests.engine.fake_runner import FakeRunner, answer_alone, greedy

A, B = Adapter("a", Path("a")), Adapter("b", Path("b"))
VIRTUAL = {"b": 3}
PROMPT = (5, 6, 7, 8, 9)


def request(
    adapter: Adapter | None = None,
    tokens: int = 8,
    prompt: tuple[int, ...] = PROMPT,
    sampling: SamplingParams | None = None,
) -> Request:
    return Request(prompt, (-1,), sampling or greedy(tokens), adapter)


def alone(asked: Request) -> list[int]:
    digest = asked.adapter.digest if asked.adapter else None
    return answer_alone(digest, VIRTUAL.get(digest or "", 0), asked.prompt_ids, asked.sampling.max_tokens)


async def answer(engine: Engine, asked: Request) -> list[int]:
    return [token.id async for token in engine.generate(asked) if token.id is not None]


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def slow(_: int) -> None:
    time.sleep(0.005)


def test_many_clients_share_the_batch_and_each_gets_the_answer_it_would_get_alone() -> None:
    async def ask_all() -> list[list[int]]:
        engine = MixedEngine(runner, max_running=8)
        await asyncio.gather(engine.load(A), engine.load(B))
        answers = await asyncio.gather(*(answer(engine, each) for each in asked))
        await engine.close()
        return answers

    runner = FakeRunner(40, num_virtual_tokens=VIRTUAL)
    asked = [request(adapter, 12, (n % 7, 2, 3, 4, 5)) for n in range(10) for adapter in (None, A, B)]
    assert asyncio.run(ask_all()) == [alone(each) for each in asked]
    assert max(len(step) for step in runner.steps) == 8
    assert max(len({chunk.expert for chunk in step}) for step in runner.steps) == 3
    assert sorted(runner.loaded) == ["a", "b"]


def test_clients_that_come_and_go_as_they_like_leave_nothing_behind() -> None:
    random = Random(0)

    async def client(engine: MixedEngine, number: int) -> None:
        asked = request(random.choice([None, A, B]), random.randint(1, 20), (number % 3, *PROMPT))
        await asyncio.sleep(random.random() / 20)
        leaves_after, got = random.choice([1, 3, 99, 99]), []
        stream = engine.generate(asked)
        try:
            async for token in stream:
                got.append(token.id)
                if len(got) == leaves_after:
                    break
        except BusyError:
            return
        finally:
            await stream.aclose()
        assert got == alone(asked)[: len(got)]

    async def run_all() -> None:
        engine = MixedEngine(FakeRunner(14, num_virtual_tokens=VIRTUAL), max_queue=30, max_running=6, step_tokens=20)
        await asyncio.gather(*(client(engine, number) for number in range(60)))
        assert engine._scheduler.cache.free == 14
        status = engine.status
        assert (status.waiting, status.running, engine._streams) == (0, 0, {})
        assert status.generated_tokens > 0
        await engine.close()

    asyncio.run(run_all())


def test_the_last_token_says_why_and_an_end_id_is_no_text() -> None:
    whole = alone(request())

    async def ask(end: int) -> list[Token]:
        engine = MixedEngine(FakeRunner())
        tokens = [token async for token in engine.generate(Request(PROMPT, (end,), greedy()))]
        await engine.close()
        return tokens

    assert asyncio.run(ask(-1)) == [*map(Token, whole[:-1]), Token(whole[-1], "length")]
    ended = whole.index(whole[3])
    assert asyncio.run(ask(whole[3])) == [*map(Token, whole[:ended]), Token(None, "stop")]


def test_an_answer_never_passes_the_context_and_virtual_tokens_are_part_of_it() -> None:
    async def lengths() -> list[int]:
        engine = MixedEngine(FakeRunner(num_virtual_tokens=VIRTUAL, context_length=16))
        answers = [await answer(engine, request(adapter, 99)) for adapter in (A, B)]
        await engine.close()
        return [len(each) for each in answers]

    assert asyncio.run(lengths()) == [11, 8]


@pytest.mark.parametrize(("adapter", "length", "said"), [(None, 16, "16 tokens.* 16"), (B, 13, "13 tokens.* 13")])
def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(
    adapter: Adapter | None, length: int, said: str
) -> None:
    async def ask() -> None:
        engine = MixedEngine(FakeRunner(num_virtual_tokens=VIRTUAL, context_length=16))
        try:
            await answer(engine, request(adapter, prompt=(1,) * length))
        finally:
            await engine.close()

    with pytest.raises(RequestError, match=f"{said} together"):
        asyncio.run(ask())


def test_a_cache_smaller_than_the_context_bounds_it() -> None:
    engine = MixedEngine(FakeRunner(blocks=10, block_size=4, context_length=2048))
    assert engine.context_length == 40
    with pytest.raises(RequestError, match="no tokens"):
        asyncio.run(answer(engine, request(prompt=())))
    asyncio.run(engine.close())


def test_a_full_queue_is_said_to_be_full() -> None:
    async def flood() -> list[object]:
        engine = MixedEngine(FakeRunner(before_step=slow), max_queue=3, max_running=1)
        first = asyncio.ensure_future(answer(engine, request(tokens=40)))
        await until(lambda: engine.status.running == 1)
        results = await asyncio.gather(*(answer(engine, request()) for _ in range(5)), return_exceptions=True)
        await first
        await engine.close()
        return [isinstance(result, BusyError) for result in results]

    assert asyncio.run(flood()) == [False] * 3 + [True] * 2


def test_requests_whose_expert_is_being_loaded_wait_too() -> None:
    gate = threading.Event()

    class SlowToLoad(FakeRunner):
        def prepare(self, adapter: Adapter) -> Prepared:
            gate.wait(5)
            return super().prepare(adapter)

    async def flood() -> list[object]:
        engine = MixedEngine(SlowToLoad(), max_queue=2)
        asked = [asyncio.ensure_future(answer(engine, request(A))) for _ in range(3)]
        await until(lambda: asked[2].done())
        assert engine.status.waiting == 2
        gate.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert engine.status.load_seconds > 0
        assert engine.status.loaded == {"a"}
        await engine.close()
        return list(results)

    assert [type(result) for result in asyncio.run(flood())] == [list, list, BusyError]


def test_a_reader_who_leaves_frees_the_place_at_once() -> None:
    async def leave() -> None:
        engine = MixedEngine(FakeRunner(before_step=slow))
        stream = engine.generate(request(tokens=200))
        await anext(stream)
        await stream.aclose()
        assert (engine.status.running, engine._scheduler.cache.free) == (0, 64)
        await engine.close()

    asyncio.run(leave())


def test_who_waits_too_long_is_told() -> None:
    async def ask() -> None:
        engine = MixedEngine(FakeRunner(before_step=slow), max_running=1)
        first = asyncio.ensure_future(answer(engine, request(tokens=40)))
        await until(lambda: engine.status.running == 1)
        with pytest.raises(DeadlineError):
            await answer(engine, Request(PROMPT, (-1,), greedy(), timeout=0.02))
        assert await first == alone(request(tokens=40))
        await engine.close()

    asyncio.run(ask())


def test_one_request_that_crashes_hurts_no_other() -> None:
    def broken(generated: tuple[int, ...]) -> object:
        return 1 / (3 - len(generated))

    async def ask() -> list[object]:
        engine = MixedEngine(FakeRunner())
        asked = [request(), request(sampling=SamplingParams(8, 0, mask=broken)), request(A)]
        results = await asyncio.gather(*(answer(engine, each) for each in asked), return_exceptions=True)
        assert engine._scheduler.cache.free == 64
        await engine.close()
        return list(results)

    first, failed, last = asyncio.run(ask())
    assert [first, last] == [alone(request()), alone(request(A))]
    assert isinstance(failed, ModelError)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), None])
def test_a_failed_step_fails_its_requests_and_the_engine_goes_on(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(FakeRunner):
        failed = False

        def step(self, chunks: Sequence[Chunk]) -> torch.Tensor:
            logits = super().step(chunks)
            slow(0)
            if self.failed or len(chunks) < 3:
                return logits
            self.failed = True
            if error:
                raise error
            return torch.full_like(logits, math.nan)

    async def ask() -> None:
        engine = MixedEngine(Failing())
        results = await asyncio.gather(*(answer(engine, request(tokens=50)) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(result, ModelError) for result in results)
        assert str(error or "no numbers") in str(results[0])
        assert engine._scheduler.cache.free == 64
        assert await answer(engine, request()) == alone(request())
        await engine.close()

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(ask())


def test_a_broken_expert_fails_its_request_and_no_other() -> None:
    class Picky(FakeRunner):
        def prepare(self, adapter: Adapter) -> Prepared:
            if adapter == A:
                raise ModelError("'a' cannot be loaded")
            return super().prepare(adapter)

    async def ask() -> list[object]:
        engine = MixedEngine(Picky(num_virtual_tokens=VIRTUAL))
        asked = [request(A), request(B), request()]
        results = await asyncio.gather(*(answer(engine, each) for each in asked), return_exceptions=True)
        assert engine.status.loaded == {"b"}
        await engine.close()
        return list(results)

    failed, *rest = asyncio.run(ask())
    assert "cannot be loaded" in str(failed)
    assert rest == [alone(request(B)), alone(request())]


def test_a_closed_engine_finishes_what_has_begun_and_fails_what_waits() -> None:
    async def close_early() -> None:
        engine = MixedEngine(FakeRunner(before_step=slow), max_running=2)
        asked = [asyncio.ensure_future(answer(engine, request())) for _ in range(5)]
        await until(lambda: engine.status.running == 2)
        await engine.close()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert results[:2] == [alone(request())] * 2
        assert all(isinstance(result, ModelError) for result in results[2:])
        for late in (answer(engine, request()), engine.load(A)):
            with pytest.raises(EngineStoppedError):
                await late

    asyncio.run(close_early())


def test_a_seeded_answer_is_the_same_in_any_company() -> None:
    seeded = request(sampling=SamplingParams(20, 1.0, 0.9, seed=5))

    async def ask() -> list[list[int]]:
        engine = MixedEngine(FakeRunner(20), max_running=6)
        lone = await answer(engine, seeded)
        others = [request(A, 30, (n, 1, 2), SamplingParams(30, 1.5)) for n in range(8)]
        crowd = await asyncio.gather(*(answer(engine, each) for each in (*others[:4], seeded, *others[4:])))
        assert engine.status.preemptions > 0
        await engine.close()
        return [lone, crowd[4]]

    lone, among = asyncio.run(ask())
    assert lone == among


def test_counters_say_what_was_done() -> None:
    async def use() -> None:
        engine = MixedEngine(FakeRunner())
        for _ in range(2):
            await answer(engine, request(tokens=6))
        status = engine.status
        assert (status.prompt_tokens, status.reused_tokens, status.generated_tokens) == (6, 4, 12)
        assert status.steps == 12
        await engine.close()

    asyncio.run(use())


def test_a_crash_of_the_loop_itself_is_told_to_all_who_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        engine = MixedEngine(FakeRunner())
        monkeypatch.setattr(engine._scheduler, "plan", lambda now: 1 / 0)
        with pytest.raises(QuintetError):
            await answer(engine, request())
        with pytest.raises(EngineStoppedError):
            await answer(engine, request())
        await engine.close()

    asyncio.run(ask())
    assert "loop failed" in caplog.text
