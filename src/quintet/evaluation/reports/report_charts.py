"""Where the marks of the report's charts stand, in percent of their width. Draws nothing: the template does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from quintet.evaluation.reports.metric_words import MINUS

BINS = 10


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers with room at both ends."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return where a value stands, in percent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[Tick]:
        """At most six round numbers, zero among them when the axis has it."""
        least = (self.high - self.low) / 5
        power = 10.0 ** floor(log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
        decimals = max(0, -floor(log10(step)))
        return [
            Tick(self.place(n * step), _signed(n * step, decimals))
            for n in range(ceil(self.low / step), floor(self.high / step) + 1)
        ]


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram: how many values lie in it, and how tall that is in percent of the tallest."""

    low: float
    high: float
    count: int
    height: float


def axis_over(values: Iterable[float]) -> Axis:
    """Return an axis with zero and all the finite values."""
    finite = [value for value in values if isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    room = 0.06 * (high - low) or 0.1
    return Axis(low - room, high + room)


def histograms(series: Sequence[Sequence[float]]) -> list[list[Bar]]:
    """Return one histogram over 0 to 1 for each series, all on the scale of the tallest bin."""
    counts = [_counts(values) for values in series]
    tallest = max((count for row in counts for count in row), default=0) or 1
    return [
        [Bar(at / BINS, (at + 1) / BINS, count, round(100 * count / tallest, 1)) for at, count in enumerate(row)]
        for row in counts
    ]


def _counts(values: Sequence[float]) -> list[int]:
    counts = [0] * BINS
    for value in values:
        if isfinite(value):
            # A hair is added, so that 0.3 falls into the bin it opens whatever its last bit says.
            counts[min(BINS - 1, max(0, int(value * BINS + 1e-9)))] += 1
    return counts


def _signed(value: float, decimals: int) -> str:
    text = f"{abs(value):.{decimals}f}"
    return f"{MINUS if value < 0 else '+'}{text}" if text.strip("0.") else "0"
