"""The time beside a bar: what is left while that is known, then what it took."""

import pytest
from rich.console import Console
from rich.progress import Progress, TaskID

from quintet.cli.time_column import TimeColumn


class Clock:
    """Tells the time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bars(clock: Clock) -> Progress:
    return Progress(TimeColumn(), console=Console(quiet=True), get_time=clock, auto_refresh=False)


def shown(bars: Progress, task: TaskID) -> str:
    return TimeColumn().render(bars.tasks[task]).plain


def advance(bars: Progress, clock: Clock, task: TaskID, steps: int) -> None:
    for _ in range(steps):
        clock.now += 2
        bars.advance(task)


def test_before_the_pace_is_known_it_is_the_time_taken(bars: Progress, clock: Clock) -> None:
    task = bars.add_task("hr", total=None)
    clock.now = 75
    assert shown(bars, task) == "0:01:15"


def test_then_it_is_the_time_left(bars: Progress, clock: Clock) -> None:
    task = bars.add_task("hr", total=100)
    advance(bars, clock, task, 10)
    assert shown(bars, task) == "0:03:00 left"


def test_at_the_end_it_is_the_time_taken(bars: Progress, clock: Clock) -> None:
    task = bars.add_task("hr", total=10)
    advance(bars, clock, task, 10)
    assert shown(bars, task) == "0:00:20"
