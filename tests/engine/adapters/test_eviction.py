"""Experts come and go within their budget: the accounts alone, and the whole engine over a fake runner."""

import asyncio
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.engine.adapters.eviction import AdapterCache
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request
from quintet.engine.types import Prepared
from quintet.errors import BusyError, DeadlineError, EngineStoppedError, ModelError
from tests.engine.fake_runner import FakeRunner, answer_alone, greedy
from tests.engine.test_engine import PROMPT, answer, slow, until

# ---- The accounts.


class Company:
    """Requests of experts over the accounts alone: they ask, are let in, end; what is to be read arrives in time."""

    def __init__(self, budget: int, sizes: Mapping[str, int]) -> None:
        self.cache = AdapterCache(budget)
        self.cache.sizes.update(sizes)
        self.waiting: list[str] = []
        self.running: Counter[str] = Counter()
        self.reading: list[str] = []
        self.left: list[str] = []

    def ask(self, digest: str) -> None:
        if self.cache.use(digest) is None:
            self.waiting.append(digest)
        else:
            self.running[digest] += 1

    def poll(self) -> None:
        used = +self.running
        eviction = self.cache.plan(dict.fromkeys(self.waiting), used)
        assert not used.keys() & set(eviction.evict)
        assert self.cache.bytes <= self.cache.budget
        self.left += eviction.evict
        self.reading += eviction.load
        for digest in eviction.loaded:
            self.running[digest] += self.waiting.count(digest)
            self.waiting = [each for each in self.waiting if each != digest]

    def arrive(self) -> None:
        if self.reading:
            self.cache.arrive(self.reading.pop(0), 0)

    def settle(self) -> None:
        for _ in range(8):
            self.poll()
            self.arrive()


def company(budget: int = 3, running: str = "", **sizes: int) -> Company:
    """Experts of one letter, each of one byte, of which some answer a request."""
    made = Company(budget, dict.fromkeys("abcdefgh", 1) | sizes)
    for digest in running:
        made.ask(digest)
        made.settle()
    return made


def test_the_least_recently_used_that_nobody_uses_leaves_first() -> None:
    made = company(running="abc")
    made.running.clear()
    made.cache.use("a")
    made.ask("d")
    made.settle()
    assert made.left == ["b"]
    assert made.cache.loaded == {"a", "c", "d"}


def test_as_many_leave_as_the_one_that_comes_needs() -> None:
    made = company(5, "abc", d=4)
    made.running.clear()
    made.ask("d")
    made.settle()
    assert made.left == ["a", "b"]


def test_whoever_is_used_stays_and_takes_no_more_requests_when_others_wait_for_its_room() -> None:
    made = company(running="abc")
    made.ask("d")
    made.settle()
    assert made.cache.loaded == {"a", "b", "c"}
    made.ask("a")
    made.ask("b")
    assert made.waiting == ["d", "a"]
    made.running["a"] = 0
    made.poll()
    assert (made.left, made.reading) == (["a"], ["d"])


def test_the_first_to_be_idle_leaves_even_when_another_was_to() -> None:
    made = company(running="abc")
    made.ask("d")
    made.settle()
    made.ask("a")
    made.running["c"] = 0
    made.settle()
    assert made.left == ["c"]
    assert made.running == Counter("aabd")


def test_when_nobody_waits_any_more_all_take_requests_again() -> None:
    made = company(running="abc")
    made.ask("d")
    made.poll()
    made.ask("a")
    made.waiting.remove("d")
    made.poll()
    assert made.running["a"] == 2


def test_what_fits_beside_one_that_waits_need_not_wait() -> None:
    made = company(10, "ab", a=6, b=1, c=8, d=1, e=2)
    for digest in "cde":
        made.ask(digest)
    made.settle()
    # When a has left there is room for c, d and b; with e, c would have to wait for b too.
    assert made.cache.loaded == {"a", "b", "d"}
    made.running["a"] = 0
    made.settle()
    assert made.cache.loaded == {"b", "c", "d"}
    made.running.clear()
    made.settle()
    assert made.cache.loaded == {"c", "e"}


def test_small_ones_that_come_and_go_do_not_keep_a_large_one_out() -> None:
    made = company(4, "abcd", h=4)
    made.ask("h")
    for poll in range(40):
        made.ask("efgabcd"[poll % 7])
        made.poll()
        made.arrive()
        made.running["abcdefg"[poll % 7]] = 0
        if made.running["h"]:
            return
    raise AssertionError("the large one never came")


def test_all_who_wait_get_room_at_once_when_there_is_enough_to_leave() -> None:
    made = company(running="abc")
    for digest in "def":
        made.ask(digest)
    made.poll()
    made.running.clear()
    made.poll()
    assert made.reading == ["d", "e", "f"]


def test_whoever_is_larger_than_the_budget_is_named_and_stands_in_nobodys_way() -> None:
    accounts = AdapterCache(3)
    accounts.sizes.update(a=4, b=3)
    eviction = accounts.plan(["a", "b"], ())
    assert (eviction.rejected, eviction.load) == (["a"], ["b"])


def test_one_that_is_larger_than_it_seemed_is_given_room_again() -> None:
    made = company(running="abc")
    made.running.clear()
    made.ask("d")
    made.poll()
    assert not made.cache.fits("d", 3)
    made.poll()
    assert made.left == ["a", "b", "c"]
    assert made.cache.fits("d", 3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.tuples(st.just("ask"), st.sampled_from("abcdefgh")),
                       st.tuples(st.sampled_from(["end", "cancel", "turn", "arrive", "fail"]), st.integers(0, 99))),
             max_size=80),
    st.lists(st.integers(1, 6), min_size=8, max_size=8),
)  # fmt: skip
def test_whatever_happens_the_budget_holds_and_everybody_is_served(
    happenings: list[tuple[str, str | int]], sizes: list[int]
) -> None:
    made = Company(7, dict(zip("abcdefgh", sizes, strict=True)))
    for kind, which in happenings:
        if isinstance(which, str):
            made.ask(which)
        elif kind == "end" and (running := sorted(made.running.elements())):
            made.running[running[which % len(running)]] -= 1
        elif kind == "cancel" and made.waiting:
            made.waiting.pop(which % len(made.waiting))
        elif kind == "turn":
            made.poll()
        elif kind == "arrive":
            made.arrive()
        elif kind == "fail" and made.reading:
            failed = made.reading.pop()
            made.cache.give_up(failed)
            made.cache.sizes[failed] = 2
            made.waiting = [each for each in made.waiting if each != failed]
    for _ in range(2 * len(happenings) + 2):
        made.poll()
        made.arrive()
        made.running.clear()
    assert not made.waiting


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_flood_of_others_keeps_nobody_waiting_for_long(seed: int, budget: int) -> None:
    """Each of six experts always has requests, and each answer takes ten turns."""
    random, made, served = Random(seed), company(budget), Counter[str]()
    begun: list[Counter[str]] = []
    for _ in range(600):
        before = +made.running
        for digest in "abcdef":
            if made.running[digest] + made.waiting.count(digest) < 3 and random.random() < 0.5:
                made.ask(digest)
        made.poll()
        made.arrive()
        begun.append(made.running - before)
        ended = begun[-10] if len(begun) >= 10 else Counter()
        made.running.subtract(ended)
        served.update(ended)
    assert min(served[digest] for digest in "abcdef") > 600 / 10 / 6 * budget


# ---- The engine.

ADAPTERS = {name: Adapter(name, Path(name)) for name in "abcdefgh"}
VIRTUAL = {"b": 3, "e": 2}


class WeighingRunner(FakeRunner):
    """Keeps a tally of the bytes of all experts that exist, prepared or installed, and of what was read when."""

    def __init__(self, budget: int, sizes: Mapping[str, int] | None = None, *, slow_steps: bool = False) -> None:
        sizes = dict.fromkeys(ADAPTERS, 1) | dict(sizes or {})
        before = slow if slow_steps else lambda _: None
        super().__init__(64, num_virtual_tokens=VIRTUAL, sizes=sizes, expert_memory=budget, before_step=before)
        self.load: list[str] = []
        self.held = 0
        self.most_held = 0
        self.freed_by: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self._installed: dict[str, Prepared] = {}

    def prepare(self, adapter: Adapter) -> Prepared:
        prepared = super().prepare(adapter)
        self.load.append(adapter.digest)
        self._hold(prepared.bytes)
        weakref.finalize(prepared, self._hold, -prepared.bytes)
        self.gate.wait(5)
        return prepared

    def install(self, digest: str, prepared: Prepared) -> None:
        super().install(digest, prepared)
        self._installed[digest] = prepared

    def unload(self, digest: str) -> Prepared:
        super().unload(digest)
        return self._installed.pop(digest)

    def _hold(self, size: int) -> None:
        if size < 0:
            self.freed_by.add(threading.current_thread().name)
        self.held += size
        self.most_held = max(self.most_held, self.held)


def request(name: str | None, tokens: int = 6, timeout: float | None = None, first: int = 5) -> Request:
    adapter = ADAPTERS[name] if name else None
    return Request((first, *PROMPT[1:]), (-1,), greedy(tokens), adapter, timeout=timeout)


def alone(asked: Request) -> list[int]:
    digest = asked.adapter.digest if asked.adapter else None
    return answer_alone(digest, VIRTUAL.get(digest or "", 0), asked.prompt_ids, asked.sampling.max_tokens)


def run(use: Callable[[MixedEngine], Coroutine[None, None, None]], runner: FakeRunner, max_queue: int = 64) -> None:
    async def use_and_close() -> None:
        engine = MixedEngine(runner, max_queue=max_queue)
        try:
            await asyncio.wait_for(use(engine), 20)
        finally:
            await engine.close()

    asyncio.run(use_and_close())


def begin(engine: MixedEngine, asked: Request) -> asyncio.Task[list[int]]:
    return asyncio.ensure_future(answer(engine, asked))


def test_many_more_experts_than_fit_all_answer_as_alone() -> None:
    async def use(engine: MixedEngine) -> None:
        for _ in range(3):
            asked = [request(name) for name in (*ADAPTERS, None)]
            assert await asyncio.gather(*(answer(engine, each) for each in asked)) == [alone(each) for each in asked]
        status = engine.status
        assert (status.loads, status.loads - status.evictions, status.expert_bytes) == (len(runner.load), 3, 3)
        assert status.loaded == set(runner.loaded)
        assert runner.most_held == status.expert_memory == 3

    runner = WeighingRunner(3)
    run(use, runner)


def test_two_who_want_one_expert_have_it_read_once() -> None:
    async def use(engine: MixedEngine) -> None:
        loading = asyncio.ensure_future(engine.load(ADAPTERS["a"]))
        for each in [begin(engine, request("a")), begin(engine, request("a"))]:
            assert await each == alone(request("a"))
        await loading
        await engine.load(ADAPTERS["a"])
        assert runner.load == ["a"]

    runner = WeighingRunner(3)
    run(use, runner)


def test_others_go_on_while_an_expert_is_read() -> None:
    async def use(engine: MixedEngine) -> None:
        runner.gate.clear()
        waiting = begin(engine, request("a"))
        await until(lambda: runner.load == ["a"])
        assert await answer(engine, request(None)) == alone(request(None))
        assert not waiting.done()
        runner.gate.set()
        assert await waiting == alone(request("a"))

    runner = WeighingRunner(3)
    run(use, runner)


def test_whoever_is_asked_stays_until_its_answers_are_whole() -> None:
    async def use(engine: MixedEngine) -> None:
        running = begin(engine, request("a", 60))
        await until(lambda: engine.status.running == 1)
        other = begin(engine, request("b"))
        await until(lambda: "a" in engine._cache._leaving)
        queued = begin(engine, request("a"))
        await until(lambda: engine.status.waiting == 2)
        assert engine.status.loaded == {"a"}
        assert await other == alone(request("b"))
        assert running.done()
        assert [await running, await queued] == [alone(request("a", 60)), alone(request("a"))]
        assert runner.load == ["a", "b", "a"]

    runner = WeighingRunner(1, slow_steps=True)
    run(use, runner)


def test_a_flood_of_requests_for_one_expert_does_not_keep_another_out() -> None:
    async def use(engine: MixedEngine) -> None:
        async def flood() -> None:
            while True:
                await answer(engine, request("a", 20))

        floods = [asyncio.ensure_future(flood()) for _ in range(4)]
        await until(lambda: engine.status.running == 4)
        assert await asyncio.wait_for(answer(engine, request("b")), 2) == alone(request("b"))
        assert not any(each.done() for each in floods)
        for each in floods:
            each.cancel()

    run(use, WeighingRunner(1, slow_steps=True))


def test_a_client_that_does_not_read_its_answer_keeps_nobody_out() -> None:
    async def use(engine: MixedEngine) -> None:
        stream = engine.generate(request("a"))
        await anext(stream)
        assert await answer(engine, request("b")) == alone(request("b"))
        rest = [token.id async for token in stream]
        assert rest == alone(request("a"))[1:]

    run(use, WeighingRunner(1))


def test_an_expert_larger_than_the_budget_is_refused_with_both_numbers_and_stops_nobody() -> None:
    async def use(engine: MixedEngine) -> None:
        asked = [begin(engine, request(name)) for name in "ab"]
        with pytest.raises(ModelError, match=r"takes 9\.0 MB.* may take 5\.0 MB; raise serving\.expert_memory"):
            await asked[0]
        assert await asked[1] == alone(request("b"))
        with pytest.raises(ModelError, match=r"9\.0 MB"):
            await engine.load(ADAPTERS["a"])
        assert runner.load == ["b"]

    runner = WeighingRunner(5_000_000, {"a": 9_000_000})
    run(use, runner)


def test_one_that_turns_out_larger_than_measured_has_room_made_and_is_read_again() -> None:
    class Misjudging(WeighingRunner):
        def measure(self, adapter: Adapter) -> int:
            return 1

    async def use(engine: MixedEngine) -> None:
        for name in "abc":
            await answer(engine, request(name))
        assert await answer(engine, request("d")) == alone(request("d"))
        assert engine.status.loaded == {"c", "d"}
        assert runner.load == ["a", "b", "c", "d", "d"]
        with pytest.raises(ModelError, match="takes"):
            await answer(engine, request("e"))

    runner = Misjudging(4, {"d": 3, "e": 5})
    run(use, runner)


@pytest.mark.parametrize("when", ["reading", "waiting for room"])
def test_a_request_that_is_cancelled_before_its_expert_came_leaves_no_trace(when: str) -> None:
    async def use(engine: MixedEngine) -> None:
        before = begin(engine, request("a", 40))
        await until(lambda: engine.status.running == 1)
        runner.gate.clear()
        cancelled = begin(engine, request("b"))
        await until(lambda: runner.load == ["a", "b"] if when == "reading" else engine.status.waiting == 1)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert engine.status.waiting == 0
        runner.gate.set()
        assert [await before, await answer(engine, request("a"))] == [alone(request("a", 40)), alone(request("a"))]
        await until(lambda: engine.status.expert_bytes == 1)
        assert (engine.status.loaded, runner.loaded, runner.held) == ({"a"}, ["a"], 1)

    runner = WeighingRunner(2 if when == "reading" else 1, slow_steps=True)
    run(use, runner)


def test_who_comes_back_while_the_expert_is_still_being_read_has_it_read_once() -> None:
    async def use(engine: MixedEngine) -> None:
        runner.gate.clear()
        cancelled = begin(engine, request("a"))
        await until(lambda: runner.load == ["a"])
        cancelled.cancel()
        await until(lambda: engine.status.waiting == 0)
        again = begin(engine, request("a"))
        await until(lambda: engine.status.waiting == 1)
        runner.gate.set()
        assert await again == alone(request("a"))
        assert runner.load == ["a"]

    runner = WeighingRunner(1)
    run(use, runner)


def test_a_deadline_holds_while_an_expert_is_read_though_nothing_else_happens() -> None:
    async def use(engine: MixedEngine) -> None:
        runner.gate.clear()
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            await answer(engine, request("a", timeout=0.05))
        assert time.monotonic() - began < 1
        runner.gate.set()
        assert await answer(engine, request("a", timeout=5)) == alone(request("a"))

    runner = WeighingRunner(1)
    run(use, runner)


def test_those_who_wait_for_experts_are_as_many_as_the_queue_holds() -> None:
    async def use(engine: MixedEngine) -> None:
        runner.gate.clear()
        asked = [begin(engine, request(name)) for name in "abcd"]
        await until(lambda: asked[3].done())
        runner.gate.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(result) for result in results] == [list, list, list, BusyError]

    runner = WeighingRunner(1)
    run(use, runner, max_queue=3)


@pytest.mark.parametrize("stage", ["measure", "prepare", "install"])
def test_broken_files_fail_their_requests_alone_and_are_looked_at_again(
    stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaking(WeighingRunner):
        broken = True

    def fail(self: Breaking, thing: object, prepared: object = None) -> object:
        if self.broken and thing in (ADAPTERS["a"], "a"):
            raise OSError("it has vanished")
        return getattr(super(Breaking, self), stage)(*([thing, prepared] if prepared else [thing]))

    async def use(engine: MixedEngine) -> None:
        asked = [begin(engine, request(name)) for name in "aba"]
        loading = asyncio.ensure_future(engine.load(ADAPTERS["a"]))
        results = await asyncio.gather(*asked, loading, return_exceptions=True)
        assert results[1] == alone(request("b"))
        for failed in (results[0], *results[2:]):
            assert isinstance(failed, ModelError)
            assert "expert in a cannot be loaded (OSError: it has vanished)" in str(failed)
        assert (engine.status.loaded, engine.status.expert_bytes) == ({"b"}, 1)
        runner.broken = False
        assert await answer(engine, request("a")) == alone(request("a"))

    setattr(Breaking, stage, fail)
    runner = Breaking(2)
    run(use, runner)
    assert "the expert in a cannot be loaded" in caplog.text


def test_one_that_comes_back_goes_on_from_the_states_it_had() -> None:
    async def use(engine: MixedEngine) -> None:
        for name in "bab":
            assert await answer(engine, request(name)) == alone(request(name))
        # 3 virtual tokens and 5 of the prompt are two full blocks, of which the last token is computed again.
        assert engine.status.reused_tokens == 4 - VIRTUAL["b"]

    run(use, WeighingRunner(1))


def test_a_thousand_experts_cost_no_more_than_those_in_memory() -> None:
    """All are asked at once and at random, some often; each is answered, in about the order of asking."""
    random = Random(7)
    adapters = [Adapter(str(number), Path(str(number))) for number in range(1000)]
    sizes = {adapter.digest: random.randint(1, 3) for adapter in adapters}
    asked = [Request(PROMPT, (-1,), greedy(random.randint(1, 3)), adapter) for adapter in random.sample(adapters, 400)]
    asked += [Request(PROMPT, (-1,), greedy(2), adapters[0]) for _ in range(100)]
    random.shuffle(asked)
    ended: list[int] = []

    async def client(engine: MixedEngine, number: int) -> None:
        assert await answer(engine, asked[number]) == alone(asked[number])
        ended.append(number)

    async def use(engine: MixedEngine) -> None:
        await asyncio.gather(*(client(engine, number) for number in range(len(asked))))
        assert runner.most_held <= engine.status.expert_memory == 12
        assert len(runner.loaded) <= 12

    runner = WeighingRunner(12, sizes)
    run(use, runner, max_queue=500)
    others = [number for number in ended if asked[number].adapter is not adapters[0]]
    due = {number: place for place, number in enumerate(sorted(others))}
    assert max(place - due[number] for place, number in enumerate(others)) <= 16


def test_a_closed_engine_fails_those_who_wait_for_an_expert() -> None:
    async def close_early() -> None:
        runner = WeighingRunner(1)
        engine = MixedEngine(runner)
        runner.gate.clear()
        asked = [asyncio.ensure_future(answer(engine, request("a"))), asyncio.ensure_future(engine.load(ADAPTERS["b"]))]
        await until(lambda: runner.load == ["a"])
        closing = asyncio.ensure_future(engine.close())
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(result, EngineStoppedError) for result in results)
        runner.gate.set()
        await closing
        assert runner.held == 0

    asyncio.run(close_early())


@pytest.mark.parametrize("seed", range(6))
def test_clients_of_many_experts_that_come_and_go_are_all_served_within_the_budget(seed: int) -> None:
    random = Random(seed)
    sizes = {name: random.randint(1, 4) for name in ADAPTERS}

    async def client(engine: MixedEngine, number: int) -> None:
        await asyncio.sleep(random.random() / 10)
        asked = request(random.choice([None, *ADAPTERS]), random.randint(1, 20), first=number % 3)
        leaves_after, got = random.choice([0, 1, 3, 99, 99, 99]), []
        try:
            async with asyncio.timeout(random.random() / 20 if leaves_after == 0 else 15):
                async for token in engine.generate(asked):
                    got.append(token.id)
                    if len(got) == leaves_after:
                        break
        except TimeoutError:
            assert leaves_after == 0
        assert got == alone(asked)[: len(got)]
        assert leaves_after < 99 or len(got) == asked.sampling.max_tokens

    async def use(engine: MixedEngine) -> None:
        await asyncio.gather(*(client(engine, number) for number in range(80)))
        await until(lambda: engine.status.expert_bytes == runner.held)
        status = engine.status
        assert (status.waiting, status.running, engine._streams) == (0, 0, {})
        assert status.evictions > 0
        assert runner.most_held <= 6
        assert runner.freed_by == {"expert-reader_0"}

    runner = WeighingRunner(6, sizes)
    run(use, runner, max_queue=99)
