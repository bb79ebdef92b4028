"""The scheduler with a fake runner, and without threads, clocks or an event loop."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.engine.interface import Adapter
from quintet.engine.scheduling.block_manager import BlockManager
from quintet.engine.scheduling.request_queue import RequestQueue
from quintet.engine.scheduling.scheduler import MAX_SKIPS, ScheduledStep, Scheduler, split
from quintet.engine.scheduling.sequence import Sequence, Status
from quintet.errors import BusyError
from tests.engine.fake_runner import FakeRunner, answer_alone, greedy

VIRTUAL = {"a": 0, "b": 3, "c": 8}


@dataclass
class Loop:
    """The engine's loop, without its thread."""

    scheduler: Scheduler
    runner: FakeRunner
    answers: dict[Sequence, list[int]] = field(default_factory=dict)
    seconds: Callable[[int], float] = lambda tokens: 0.0

    def step(self, now: float = 0.0) -> ScheduledStep:
        step = self.scheduler.plan(now)
        if step.work:
            asking = [work.sequence for work in step.work if work.chunk.wants_logits]
            logits = self.runner.step([work.chunk for work in step.work])
            ids = logits.argmax(-1).tolist() if asking else []
            chosen = dict(zip(asking, ids, strict=True))
            seconds = self.seconds(sum(len(work.chunk.ids) for work in step.work))
            for sequence in self.scheduler.complete(step, chosen, seconds):
                self.answers.setdefault(sequence, []).append(chosen[sequence])
        return step

    def run(self, most: int = 5000) -> int:
        """Go on until nothing is left to do; return the number of steps."""
        for number in range(most):
            if not self.scheduler.all():
                return number
            self.step()
        raise AssertionError(f"not done after {most} steps")


def make(
    blocks: int = 64,
    *,
    max_queue: int = 64,
    max_running: int = 8,
    step_tokens: int = 16,
    seconds: Callable[[int], float] = lambda tokens: 0.0,
) -> Loop:
    runner = FakeRunner(blocks, 4, num_virtual_tokens=VIRTUAL)
    for digest in VIRTUAL:
        runner.install(digest, runner.prepare(Adapter(digest, Path(digest))))
    cache = BlockManager(runner.blocks, runner.block_size)
    scheduler = Scheduler(cache, max_queue=max_queue, max_running=max_running, step_tokens=step_tokens)
    return Loop(scheduler, runner, seconds=seconds)


def as_long_as_its_tokens(tokens: int) -> float:
    """What steps take on a machine where departments cannot all take part in each."""
    return float(2 + tokens)


def sequence(
    length: int = 4, tokens: int = 8, expert: str | None = None, first: int = 0, deadline: float | None = None
) -> Sequence:
    prompt = tuple((first + place) % 50 for place in range(length))
    num_virtual_tokens = VIRTUAL[expert] if expert else 0
    return Sequence(prompt, (-1,), tokens, greedy(), expert, num_virtual_tokens, expert or "base", deadline)


def alone(one: Sequence) -> list[int]:
    return answer_alone(one.expert, one.num_virtual_tokens, one.prompt_ids, one.max_new_tokens)


def check_answers(loop: Loop, asked: list[Sequence]) -> None:
    assert [loop.answers[one] for one in asked] == [alone(one) for one in asked]
    assert loop.scheduler.cache.free == loop.scheduler.cache.blocks


def test_a_mixture_of_experts_is_one_batch_and_each_answer_is_the_one_it_would_be_alone() -> None:
    loop = make()
    asked = [sequence(expert=expert, tokens=5) for expert in (None, "a", "b", "c")]
    for one in asked:
        loop.scheduler.add(one)
    assert loop.run() == 5
    assert [len(step) for step in loop.runner.steps] == [4] * 5
    check_answers(loop, asked)


def test_the_queue_is_bounded_and_what_runs_does_not_count() -> None:
    loop = make(max_queue=3, max_running=2)
    for _ in range(3):
        loop.scheduler.add(sequence())
    with pytest.raises(BusyError, match="3 requests wait"):
        loop.scheduler.add(sequence())
    loop.step()
    assert (loop.scheduler.waiting, len(loop.scheduler.running)) == (1, 2)
    loop.scheduler.add(sequence())


def test_when_others_have_filled_the_queue_a_department_still_has_its_even_share_of_it() -> None:
    loop = make(max_queue=6, max_running=1)
    for _ in range(6):
        loop.scheduler.add(sequence(expert="a"))
    for expert, share in (("b", 3), ("c", 2)):
        for _ in range(share):
            loop.scheduler.add(sequence(expert=expert))
        with pytest.raises(BusyError):
            loop.scheduler.add(sequence(expert=expert))
    with pytest.raises(BusyError):
        loop.scheduler.add(sequence(expert="a"))


def test_a_step_too_short_for_all_that_run_is_refused() -> None:
    with pytest.raises(ValueError, match="16 tokens is too short for 16"):
        make(max_running=16)


def test_a_long_prompt_is_computed_in_chunks_while_others_get_a_token_in_every_step() -> None:
    loop = make(blocks=2600, step_tokens=512)
    talking = [sequence(tokens=200, first=number) for number in range(3)]
    for one in talking:
        loop.scheduler.add(one)
    loop.step()
    long = sequence(10_000, 3, "a")
    loop.scheduler.add(long)
    steps = 0
    while long.remaining > 1 or not long.began:
        before = [len(loop.answers[one]) for one in talking]
        loop.step()
        steps += 1
        assert [len(loop.answers[one]) for one in talking] == [number + 1 for number in before]
        assert sum(len(chunk.ids) for chunk in loop.runner.steps[-1]) <= 512
    # 512 tokens a step, of which three decode.
    assert steps == -(-10_000 // 509)
    loop.run()
    check_answers(loop, [*talking, long])


def test_a_short_prompt_does_not_wait_for_a_long_one_of_its_own_department() -> None:
    loop = make(blocks=600)
    long, short = sequence(2000, 2), sequence(5, 2, first=7)
    loop.scheduler.add(long)
    loop.step()
    loop.scheduler.add(short)
    loop.step()
    assert len(loop.answers[short]) == 1


def test_of_prompts_that_came_together_the_first_is_done_while_the_others_wait() -> None:
    loop = make(step_tokens=12)
    asked = [sequence(12, tokens=1, first=first) for first in (0, 20, 40)]
    for one in asked:
        loop.scheduler.add(one)

    done = []
    for _ in range(3):
        loop.step()
        done.append(len(loop.answers))

    assert done == [1, 2, 3]
    check_answers(loop, asked)


def test_the_flood_of_one_department_delays_the_request_of_another_by_one_step() -> None:
    """Every place is taken by answers of 100 tokens; the newcomer has its first token after two steps."""
    loop = make(blocks=400)
    for number in range(60):
        loop.scheduler.add(sequence(tokens=100, expert="a", first=number))
    for _ in range(10):
        loop.step()
    assert len(loop.scheduler.running) == 8
    lone = sequence(tokens=5, expert="b")
    loop.scheduler.add(lone)
    alone_steps = 5
    for _ in range(alone_steps + 1):
        loop.step()
    assert lone.status is Status.FINISHED
    assert loop.answers[lone] == alone(lone)
    loop.run()


def test_the_same_holds_when_the_flood_fills_the_cache() -> None:
    loop = make(blocks=30)
    flood = [sequence(10, 60, "a", number) for number in range(60)]
    for one in flood:
        loop.scheduler.add(one)
    for _ in range(30):
        loop.step()
    assert loop.scheduler.cache.free < 6
    lone = sequence(20, tokens=5, expert="b")
    loop.scheduler.add(lone)
    for _ in range(9):
        loop.step()
    assert lone.status is Status.FINISHED
    loop.run(20_000)
    check_answers(loop, [*flood, lone])


def test_two_floods_get_the_same_number_of_places() -> None:
    loop = make(blocks=400)
    for number in range(30):
        loop.scheduler.add(sequence(tokens=50, expert="a", first=number))
    loop.step()
    for number in range(30):
        loop.scheduler.add(sequence(tokens=50, expert="b", first=number))
    loop.step()
    running = [one.expert for one in loop.scheduler.running]
    assert (running.count("a"), running.count("b")) == (4, 4)


def test_departments_that_wait_are_served_the_same_number_of_tokens() -> None:
    queue = RequestQueue(quantum=10)
    for number in range(100):
        queue.append(sequence(5, expert="a", first=number))
        queue.append(sequence(20, expert="b", first=number))
    served = {"a": 0, "b": 0}
    for _ in range(60):
        one = queue.next()
        assert one is not None
        assert one.expert is not None
        queue.begin(one)
        served[one.expert] += len(one.prompt_ids)
    assert abs(served["a"] - served["b"]) <= 30


def test_within_a_department_the_first_to_come_is_the_first_to_begin() -> None:
    loop = make(max_running=2)
    asked = [sequence(first=number) for number in range(6)]
    for one in asked:
        loop.scheduler.add(one)
    loop.run()
    assert list(loop.answers) == asked


def test_when_the_cache_is_full_the_youngest_waits_and_is_computed_again() -> None:
    loop = make(blocks=8)
    asked = [sequence(4, 20, first=number) for number in range(3)]
    for one in asked:
        loop.scheduler.add(one)
    while not loop.scheduler.preemptions:
        loop.step()
    assert asked[2].status is Status.WAITING
    assert (loop.scheduler.waiting, loop.scheduler.begun) == (0, 3)
    loop.run()
    check_answers(loop, asked)
    assert list(loop.answers) == asked


def test_a_sequence_as_large_as_the_cache_is_answered_after_all() -> None:
    loop = make(blocks=8)
    small = [sequence(4, 8, "a", number) for number in range(20)]
    large = sequence(20, 12)
    for one in (*small[:3], large, *small[3:]):
        loop.scheduler.add(one)
    loop.run()
    check_answers(loop, [*small, large])


def test_others_do_not_pass_for_ever_one_that_fits_only_an_empty_cache() -> None:
    loop = make(blocks=8)
    large = sequence(28, 4)
    for number in range(1000):
        # One department begins four steps after the other, so that one of them runs whenever the other ends.
        for expert in ("a", "b") if number >= 4 else ("a",):
            if not any(one.expert == expert for one in loop.scheduler.all() if not one.began):
                loop.scheduler.add(sequence(4, 8, expert, number))
        if number == 5:
            loop.scheduler.add(large)
        loop.step()
        if large.status is Status.FINISHED:
            assert large.num_skips == MAX_SKIPS
            return
    raise AssertionError("the large one never ended")


def test_nobody_begins_who_would_have_to_make_room_at_once() -> None:
    loop = make(blocks=3)
    first, second = sequence(4, 4), sequence(4, 4, first=9)
    loop.scheduler.add(first)
    loop.step()
    loop.scheduler.add(second)
    loop.step()
    assert not second.began
    loop.run()
    assert loop.scheduler.preemptions == 0


def test_who_made_room_goes_on_before_others_of_its_department_begin() -> None:
    loop = make(blocks=8)
    asked = [sequence(4, 20, first=number) for number in range(4)]
    for one in asked[:3]:
        loop.scheduler.add(one)
    loop.step()
    loop.scheduler.add(asked[3])
    while not loop.scheduler.preemptions:
        loop.step()
    while asked[2].status is Status.WAITING:
        assert not asked[3].began
        loop.step()


def test_a_removed_sequence_frees_its_blocks_at_once_even_between_plan_and_complete() -> None:
    loop = make()
    one, two, queued = sequence(tokens=50), sequence(tokens=9), sequence()
    loop.scheduler.add(one)
    loop.scheduler.add(two)
    loop.step()
    step = loop.scheduler.plan()
    free = loop.scheduler.cache.free
    loop.scheduler.remove(one)
    loop.scheduler.remove(one)
    assert loop.scheduler.cache.free == free + 2
    loop.scheduler.complete(step, {})
    assert one.blocks == []
    loop.scheduler.add(queued)
    loop.scheduler.remove(queued)
    assert loop.scheduler.waiting == 0


def test_who_is_past_its_deadline_is_dropped_whether_it_waits_or_runs() -> None:
    loop = make(max_running=1)
    runs, waits, patient = sequence(tokens=50, deadline=5), sequence(deadline=3), sequence(deadline=99)
    for one in (runs, waits, patient):
        loop.scheduler.add(one)
    assert loop.step(now=2).timed_out == ()
    assert loop.step(now=3).timed_out == (waits,)
    assert loop.step(now=5).timed_out == (runs,)
    assert loop.scheduler.running == [patient]


def test_a_conversation_goes_on_from_the_states_of_its_earlier_turns() -> None:
    loop = make()
    first = sequence(10, 11, "b")
    loop.scheduler.add(first)
    loop.run()
    ids = (*first.ids, 40, 41)
    second = Sequence(ids, (-1,), 4, greedy(), "b", VIRTUAL["b"], "b")
    loop.scheduler.add(second)
    loop.run()
    # 3 virtual tokens, 10 of the prompt, 11 of the answer but for the last: 23 places, five full blocks of 4.
    assert loop.scheduler.reused_tokens == 5 * 4 - 3
    check_answers(loop, [first, second])


def test_who_sits_a_step_out_keeps_what_it_holds() -> None:
    loop = make(seconds=as_long_as_its_tokens)
    asked = [sequence(tokens=12, expert="a", first=number) for number in range(6)]
    for one in asked:
        loop.scheduler.add(one)
    loop.step()
    quiet = sequence(tokens=12)
    loop.scheduler.add(quiet)
    sat_out = 0
    while quiet.status is not Status.FINISHED:
        held = [(one, one.num_computed_tokens, list(one.blocks)) for one in loop.scheduler.running]
        taking_part = {work.sequence for work in loop.step().work}
        sat_out += quiet in taking_part and len(taking_part) == 1
        for one, computed, blocks in held:
            if one not in taking_part:
                assert one.num_computed_tokens == computed
                assert one.blocks[: len(blocks)] == blocks
    assert sat_out > 3
    loop.run()
    check_answers(loop, [*asked, quiet])
    assert loop.scheduler.preemptions == loop.scheduler.reused_tokens == 0


def test_beside_a_flood_an_answer_takes_less_than_twice_as_long_as_alone() -> None:
    def seconds_to_answer(loop: Loop) -> float:
        quiet, clock = sequence(12, 40, "b"), 0.0
        loop.scheduler.add(quiet)
        while quiet.status is not Status.FINISHED:
            clock += loop.seconds(sum(len(work.chunk.ids) for work in loop.step().work))
        return clock

    def machine(tokens: int) -> float:
        return 9.0 + tokens

    alone = seconds_to_answer(make(400, max_running=32, step_tokens=64, seconds=machine))
    loop = make(400, max_running=32, step_tokens=64, seconds=machine)
    for number in range(50):
        loop.scheduler.add(sequence(10, 30, "a", number))
    for _ in range(10):
        loop.step()
    assert seconds_to_answer(loop) < 2 * alone


@pytest.mark.parametrize(
    ("amount", "wanted", "shares"),
    [(10, [], []), (10, [3, 4], [3, 4]), (10, [100, 2], [8, 2]), (9, [9, 9, 9], [3, 3, 3]), (2, [5, 5, 5], [1, 1, 0])],
)
def test_an_amount_is_split_evenly(amount: int, wanted: list[int], shares: list[int]) -> None:
    assert split(amount, wanted) == shares


arrivals = st.builds(
    lambda length, tokens, expert, first: sequence(length, tokens, expert, first),
    st.integers(1, 24),
    st.integers(1, 12),
    st.sampled_from([None, "a", "b", "c"]),
    # Few beginnings, so that many share one.
    st.integers(0, 2),
)
events = st.lists(
    st.one_of(arrivals, st.just("step"), st.tuples(st.just("cancel"), st.integers(0, 30))), min_size=10, max_size=80
)


@settings(max_examples=150, deadline=None)
@given(events, st.integers(11, 30), st.integers(1, 5), st.integers(6, 40), st.integers(1, 8))
def test_whatever_comes_in_whatever_order_every_answer_is_the_one_it_would_be_alone(
    happenings: list[Sequence | str | tuple[str, int]], blocks: int, running: int, tokens: int, queue: int
) -> None:
    loop = make(blocks, max_queue=queue, max_running=running, step_tokens=tokens, seconds=as_long_as_its_tokens)
    asked: list[Sequence] = []
    cancelled: set[Sequence] = set()
    for happening in happenings:
        if isinstance(happening, Sequence):
            # Hypothesis may show the same one twice.
            one = sequence(
                len(happening.prompt_ids), happening.max_new_tokens, happening.expert, happening.prompt_ids[0]
            )
            if loop.scheduler.waiting < queue:
                loop.scheduler.add(one)
                asked.append(one)
            else:
                with suppress(BusyError):
                    loop.scheduler.add(one)
                    asked.append(one)
        elif isinstance(happening, tuple):
            for one in asked[happening[1] : happening[1] + 1]:
                loop.scheduler.remove(one)
                cancelled.add(one)
        else:
            loop.step()
        assert loop.scheduler.waiting <= queue * (1 + 1 / 2 + 1 / 3 + 1 / 4)
        assert len(loop.scheduler.running) <= running
    loop.run()
    for one in asked:
        whole, got = alone(one), loop.answers.get(one, [])
        assert got == (whole[: len(got)] if one in cancelled else whole)
    assert all(sum(len(chunk.ids) for chunk in step) <= tokens for step in loop.runner.steps)
    assert loop.scheduler.cache.free == blocks
