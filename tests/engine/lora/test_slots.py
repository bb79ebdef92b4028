"""Where experts' rows lie: those of a step close together, none moved without need."""

import random

import pytest

from quintet.engine.lora.slots import MAX_SPAN_RATIO, SlotAllocator

FOUR = dict.fromkeys("abcd", 16)


def only(*digests: str) -> dict[str, int]:
    return {digest: FOUR[digest] for digest in digests}


def filled() -> SlotAllocator:
    space = SlotAllocator(64)
    assert space.gather(FOUR) == ["a", "b", "c", "d"]
    return space


def test_experts_that_come_and_go_are_written_once() -> None:
    space = filled()
    for active in ("a", "d", "bc", "abcd", "c"):
        assert space.gather(only(*active)) == []
    assert space.span(FOUR) == range(64)


def test_the_window_of_one_is_its_own_rows_and_of_none_is_empty() -> None:
    assert filled().span("c") == range(32, 48)
    assert filled().span("") == range(0)


def test_one_that_enters_takes_free_rows_before_those_of_an_idle_one() -> None:
    space = filled()
    space.forget("b")
    assert space.gather({**only("a"), "e": 16}) == ["e"]
    assert space.ranges["e"] == range(16, 32)
    assert {"a", "c", "d"} < space.ranges.keys()


def test_where_no_rows_are_free_an_idle_one_makes_room() -> None:
    space = filled()
    assert space.gather({**only("a", "b", "d"), "e": 16}) == ["e"]
    assert space.ranges["e"] == range(32, 48)
    assert "c" not in space.ranges


def test_what_lies_too_far_apart_moves_closer_one_a_step() -> None:
    space = SlotAllocator(160)
    space.gather(dict.fromkeys("0123456789", 16))
    apart = {"0": 16, "8": 16, "9": 16}
    assert space.gather(apart) == ["9"]
    assert space.gather(apart) == ["8"]
    assert len(space.span(apart)) <= MAX_SPAN_RATIO * 48
    assert space.gather(apart) == []


def test_rows_that_are_free_in_pieces_are_made_one() -> None:
    space = SlotAllocator(40)
    space.gather({"a": 8, "b": 8, "c": 8, "d": 8, "e": 8})
    wide = {"b": 8, "d": 8, "f": 20}
    assert set(space.gather(wide)) == {"b", "d", "f"}
    assert len(space.span(wide)) == 36


def test_more_than_there_are_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="80 ranks do not fit into 64 rows"):
        SlotAllocator(64).gather(dict.fromkeys("abcde", 16))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_and_goes_no_two_meet_and_what_is_new_is_said(seed: int) -> None:
    rng = random.Random(seed)
    widths = {str(number): rng.choice((1, 4, 8, 16, 16, 64)) for number in range(12)}
    space = SlotAllocator(sum(widths.values()))
    written: dict[str, range] = {}
    for _ in range(400):
        active = {digest: widths[digest] for digest in rng.sample(sorted(widths), rng.randint(0, 12))}
        for digest in space.gather(active):
            taken = space.ranges[digest]
            written = {other: rows for other, rows in written.items() if not set(rows) & set(taken)}
            written[digest] = taken
        assert all(written[digest] == space.ranges[digest] for digest in active)
        assert all(len(space.ranges[digest]) == width for digest, width in active.items())
        rows = [row for each in space.ranges.values() for row in each]
        assert len(rows) == len(set(rows))
        assert all(0 <= row < space.capacity for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_experts_of_one_width_come_to_rest_close_together(seed: int) -> None:
    rng = random.Random(seed)
    space = SlotAllocator(20 * 16)
    for _ in range(50):
        active = dict.fromkeys(rng.sample(range(20), rng.randint(1, 20)), 16)
        named = {str(number): width for number, width in active.items()}
        steps = 0
        while space.gather(named):
            steps += 1
        assert steps <= len(named) + 1
        assert len(space.span(named)) <= MAX_SPAN_RATIO * sum(named.values())
