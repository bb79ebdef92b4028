"""When refused requests may come back."""

import pytest

from quintet.engine.interface import SamplingParams
from quintet.engine.scheduling.block_manager import BlockManager
from quintet.engine.scheduling.retry_after import LONGEST_SECONDS, RetryAfterEstimator
from quintet.engine.scheduling.scheduler import Scheduler
from quintet.engine.scheduling.sequence import Sequence
from quintet.errors import BusyError


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def estimator_where_places_become_free_every(seconds: float, clock: Clock) -> RetryAfterEstimator:
    estimator = RetryAfterEstimator(clock)
    for _ in range(20):
        estimator.note_free()
        clock.now += seconds
    return estimator


def test_each_of_those_who_are_refused_is_promised_a_place_of_its_own() -> None:
    estimator = estimator_where_places_become_free_every(2.0, Clock())
    assert [estimator.promise() for _ in range(4)] == [2, 4, 6, 8]


def test_where_places_become_free_faster_more_may_come_back_at_a_time() -> None:
    estimator = estimator_where_places_become_free_every(0.25, Clock())
    assert [estimator.promise() for _ in range(8)] == [1] * 4 + [2] * 4


def test_promises_are_kept_as_time_goes_by() -> None:
    clock = Clock()
    estimator = estimator_where_places_become_free_every(1.0, clock)
    assert [estimator.promise() for _ in range(10)][-1] == 10
    for _ in range(8):
        clock.now += 1
        estimator.note_free()
    assert estimator.promise() == 3


def test_when_nothing_becomes_free_any_more_the_wait_grows() -> None:
    clock = Clock()
    estimator = estimator_where_places_become_free_every(0.1, clock)
    clock.now += 40
    assert estimator.promise() >= 2


def test_plenty_of_room_ends_all_promises() -> None:
    estimator = estimator_where_places_become_free_every(2.0, Clock())
    assert [estimator.promise() for _ in range(30)][-1] == 60
    estimator.forget_promises()
    assert estimator.promise() == 2


def test_nobody_is_told_to_wait_longer_than_they_would_believe() -> None:
    estimator = estimator_where_places_become_free_every(30, Clock())
    assert [estimator.promise() for _ in range(30)][-1] == LONGEST_SECONDS


def test_refusals_of_a_full_queue_say_when_to_come_back_one_after_the_other() -> None:
    scheduler = Scheduler(BlockManager(8, 4), max_queue=2)

    def refused() -> int | None:
        with pytest.raises(BusyError) as caught:
            scheduler.add(Sequence((1,), (), 1, SamplingParams()))
        return caught.value.retry_after

    for _ in range(2):
        scheduler.add(Sequence((1,), (), 1, SamplingParams()))
    assert [refused() for _ in range(3)] == [1, 2, 3]
