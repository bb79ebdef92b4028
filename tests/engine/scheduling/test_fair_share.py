"""Who takes part in a step, on machines of several kinds whose steps last as long as they say."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from quintet.engine.scheduling.fair_share import VirtualClocks

Machine = Callable[[int], float]


def cpu(tokens: int) -> float:
    return 9.0 + tokens


def small_cpu(tokens: int) -> float:
    """One token is a product with a vector, two are one with a matrix."""
    return 7.0 if tokens == 1 else 12.0 + tokens / 4


def gpu(tokens: int) -> float:
    return 10.0 + tokens / 100


def run(turns: VirtualClocks, machine: Machine, wanted: Mapping[str, int], steps: int) -> tuple[Counter[str], float]:
    """Return in how many of the steps each department took part, and how long they took in all."""
    parts, seconds = Counter(dict.fromkeys(wanted, 0)), 0.0
    for _ in range(steps):
        tokens = {name: wanted[name] for name in turns.next(wanted)}
        turns.took(tokens, took := machine(sum(tokens.values())))
        parts.update(tokens.keys())
        seconds += took
    return parts, seconds


def slowdown(turns: VirtualClocks, machine: Machine, wanted: Mapping[str, int], name: str) -> float:
    run(turns, machine, wanted, 50)
    parts, seconds = run(turns, machine, wanted, 400)
    return seconds / parts[name] / machine(wanted[name])


def test_a_department_by_itself_takes_part_in_every_step() -> None:
    assert run(VirtualClocks(128), cpu, {"a": 100}, 50)[0] == {"a": 50}


@pytest.mark.parametrize("machine", [cpu, small_cpu])
@pytest.mark.parametrize("flood", [8, 32, 128])
def test_a_quiet_department_is_held_up_by_no_more_than_half(machine: Machine, flood: int) -> None:
    assert slowdown(VirtualClocks(128), machine, {"quiet": 1, "flood": flood}, "quiet") < 1.5


def test_a_flood_gets_on_all_the_while() -> None:
    parts, seconds = run(VirtualClocks(128), cpu, {"quiet": 1, "flood": 32}, 400)
    assert 32 * parts["flood"] / seconds > 0.35 * 32 / cpu(32)


def test_where_more_tokens_take_no_longer_all_take_part_in_every_step() -> None:
    turns, wanted = VirtualClocks(512), {"quiet": 1, "flood": 32, "more": 100}
    run(turns, gpu, wanted, 10)
    assert run(turns, gpu, wanted, 100)[0] == dict.fromkeys(wanted, 100)


@pytest.mark.parametrize("machine", [cpu, small_cpu, gpu])
def test_departments_that_ask_alike_are_always_together(machine: Machine) -> None:
    wanted = {"a": 6, "b": 6, "c": 6}
    assert run(VirtualClocks(128), machine, wanted, 50)[0] == dict.fromkeys(wanted, 50)


def test_those_that_ask_nearly_alike_are_nearly_always_together() -> None:
    parts, _ = run(VirtualClocks(128), cpu, {"a": 12, "b": 13}, 200)
    assert parts["a"] == 200
    assert parts["b"] > 160


def test_floods_share_their_steps_with_each_other() -> None:
    wanted = {"quiet": 1, "one": 30, "two": 30, "three": 30}
    turns = VirtualClocks(128)
    run(turns, small_cpu, wanted, 20)
    together = [turns.next(wanted)]
    for _ in range(100):
        turns.took({name: wanted[name] for name in together[-1]}, small_cpu(sum(wanted[name] for name in together[-1])))
        together.append(turns.next(wanted))
    assert {len(names) for names in together} <= {1, 3, 4}


def test_who_comes_is_owed_nothing_for_the_time_it_was_not_there() -> None:
    turns = VirtualClocks(128)
    run(turns, cpu, {"flood": 32}, 500)
    parts, _ = run(turns, cpu, {"quiet": 1, "flood": 32}, 20)
    assert parts["flood"] > 1


def test_who_comes_has_its_first_step_to_itself() -> None:
    turns = VirtualClocks(128)
    run(turns, cpu, {"quiet": 1}, 5)
    run(turns, cpu, {"flood": 100}, 5)
    assert turns.next({"quiet": 40, "flood": 100}) == {"quiet"}


def test_who_goes_and_comes_back_gains_nothing_by_it() -> None:
    turns, parts, seconds = VirtualClocks(128), Counter[str](), 0.0
    for number in range(400):
        wanted = {"steady": 1} if number % 4 == 0 else {"steady": 1, "coming and going": 32}
        more, took = run(turns, cpu, wanted, 1)
        parts, seconds = parts + more, seconds + took
    assert seconds / parts["steady"] / cpu(1) < 1.5


def test_taking_part_where_it_costs_others_little_is_not_counted() -> None:
    turns, wanted = VirtualClocks(128), {"a": 32, "b": 60}
    run(turns, gpu, wanted, 10)
    run(turns, gpu, wanted, 500)
    ahead = turns._clocks["b"] - turns._clocks["a"]
    assert ahead < 2 * gpu(32)
