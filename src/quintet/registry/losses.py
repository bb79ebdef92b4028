"""The losses that a run logged, read from its metrics.jsonl. Draws nothing, knows nothing of what was trained."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
"""In a run's folder: what it logged, a JSON object a line."""
MOST_POINTS = 200
"""Of a curve that is kept or shown: more than a drawing has room for says nothing."""
Series = tuple[tuple[int, float], ...]
"""(step, loss), steps ascending."""


@dataclass(frozen=True)
class Curve:
    """The losses that a run logged, those on its own rows and those on held-out ones."""

    training: Series
    held_out: Series

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and loss where the held-out loss is lowest, the first of several."""
        return min(finite(self.held_out), key=lambda point: point[1], default=None)


def read_curve(metrics: Path) -> Curve:
    """Read the losses of a metrics.jsonl; one that is not there yet has none."""
    training: list[tuple[int, float]] = []
    held_out: list[tuple[int, float]] = []
    for entry in _entries(metrics):
        _append(training, entry, "loss")
        _append(held_out, entry, "eval_loss")
    return Curve(tuple(training), tuple(held_out))


def finite(series: Series) -> Series:
    """Return the points that can be drawn."""
    return tuple(point for point in series if isfinite(point[1]))


def thinned(series: Series) -> Series:
    """Return the points that can be drawn, evenly fewer where there are many; the last one is among them."""
    points = finite(series)
    every = -(-len(points) // MOST_POINTS) or 1
    return points[::-every][::-1]


def _entries(metrics: Path) -> Iterator[dict[str, Any]]:
    if not metrics.is_file():
        return
    for line in metrics.read_text("utf-8", errors="replace").splitlines():
        # A kill tears the last line, and a run that is resumed writes on after it.
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            yield entry


def _append(series: list[tuple[int, float]], entry: dict[str, Any], key: str) -> None:
    value = entry.get(key)
    if not isinstance(value, int | float):
        return
    # A resumed run goes back to its checkpoint: what was logged after that is undone.
    while series and series[-1][0] >= entry["step"]:
        series.pop()
    series.append((entry["step"], float(value)))
