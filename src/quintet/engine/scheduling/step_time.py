"""Step time model: how long a step of so many tokens takes, learnt from the steps that there were."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

WEIGHT = 0.2
"""Of the latest step in the mean of those of its size."""
MEMORY = 1000
"""Steps after which a size that did not come again is forgotten: experts, texts and the machine's other work change."""


@dataclass
class _Size:
    """Steps of about one number of tokens: their mean number, their mean seconds, and which step was the last."""

    tokens: float
    seconds: float
    last: int


class StepTimeModel:
    """Mean times of steps by their size: one, two to three, four to seven, eight to fifteen tokens and so on.

    In between it is interpolated. What no step was as small or as large as is taken to be in proportion: an estimate
    that is too low for few tokens leads to their being computed by themselves, and so to a better one.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}
        self._steps = 0

    def note(self, tokens: int, seconds: float) -> None:
        """Take a step into account."""
        self._steps += 1
        size = self._sizes.setdefault(tokens.bit_length(), _Size(tokens, seconds, self._steps))
        size.tokens += WEIGHT * (tokens - size.tokens)
        size.seconds += WEIGHT * (seconds - size.seconds)
        size.last = self._steps

    def seconds(self, tokens: int) -> float:
        """Return about how long a step of so many tokens takes; 0 when there was none at all."""
        points = list(self._points())
        if not points:
            return 0.0
        place = bisect_left(points, (tokens, 0.0))
        if place in (0, len(points)):
            known, seconds = points[min(place, len(points) - 1)]
            return seconds * tokens / known
        (fewer, low), (more, high) = points[place - 1 : place + 1]
        return low + (high - low) * (tokens - fewer) / (more - fewer)

    def _points(self) -> Iterator[tuple[float, float]]:
        """Yield tokens and seconds in order; what is smaller takes no longer than what is larger, or it was delayed."""
        sizes = [size for _, size in sorted(self._sizes.items()) if self._steps - size.last < MEMORY]
        for place, size in enumerate(sizes):
            yield size.tokens, min(larger.seconds for larger in sizes[place:])
