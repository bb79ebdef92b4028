"""How much longer, beside a bar. Knows nothing of what is done meanwhile."""

from datetime import timedelta

from rich.progress import ProgressColumn, Task
from rich.text import Text


class TimeColumn(ProgressColumn):
    """The time that is left, by the last half minute; before that is known, and at the end, the time taken."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return it as hours, minutes and seconds."""
        left = task.time_remaining
        if task.finished or left is None:
            return Text(_clock(task.finished_time or task.elapsed or 0), style="progress.elapsed")
        return Text(f"{_clock(left)} left", style="progress.remaining")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
