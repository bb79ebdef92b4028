"""How long steps take, by those that there were."""

import pytest

from quintet.engine.scheduling.step_time import MEMORY, StepTimeModel


def paced(*steps: tuple[int, float]) -> StepTimeModel:
    pace = StepTimeModel()
    for tokens, seconds in steps:
        pace.note(tokens, seconds)
    return pace


def test_without_a_step_nothing_is_known() -> None:
    assert StepTimeModel().seconds(7) == 0


def test_between_two_sizes_it_is_interpolated_and_beyond_them_in_proportion() -> None:
    pace = paced((8, 10.0), (32, 22.0))
    assert [pace.seconds(tokens) for tokens in (4, 8, 20, 32, 64)] == [5, 10, 16, 22, 44]


def test_the_latest_steps_of_a_size_weigh_most() -> None:
    pace = paced((8, 10.0), *[(8, 20.0)] * 20)
    assert pace.seconds(8) == pytest.approx(20, rel=0.01)


def test_a_small_step_that_was_held_up_does_not_count_as_longer_than_a_large_one() -> None:
    assert paced((1, 50.0), (32, 20.0)).seconds(1) == 20


def test_a_size_that_did_not_come_for_long_is_forgotten() -> None:
    pace = paced((1, 1.0), *[(16, 32.0)] * MEMORY)
    assert pace.seconds(1) == 2
