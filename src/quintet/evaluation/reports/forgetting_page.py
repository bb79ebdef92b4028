"""What every expert has forgotten or learnt → one HTML page that fetches nothing. Measures nothing."""

from dataclasses import dataclass
from math import isfinite, log2

from quintet.evaluation.reports.metric_words import PERPLEXITY
from quintet.evaluation.reports.pages import render
from quintet.evaluation.results import ForgettingMatrix

STEPS = 4
"""Shades to each side of the base; that many make a factor of two."""

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class MatrixCell:
    """One expert on one set; `own` where the set is that of the expert's own department."""

    perplexity: float
    base: float
    own: bool

    @property
    def ratio(self) -> float:
        """The expert's perplexity as a multiple of the base's; below 1 is better."""
        return self.perplexity / self.base if self.base else float("nan")

    @property
    def shade(self) -> str:
        """The class of its colour, by the logarithm of the ratio."""
        return shade(self.ratio)

    @property
    def shown(self) -> str:
        """The perplexity in three digits."""
        return PERPLEXITY.show(self.perplexity)

    @property
    def times(self) -> str:
        """The ratio in words."""
        return show_ratio(self.ratio)


@dataclass(frozen=True)
class MatrixRow:
    """One expert on every set."""

    name: str
    cells: tuple[MatrixCell, ...]


@dataclass(frozen=True)
class ScaleKey:
    """One shade of the legend and the ratio in its middle."""

    shade: str
    text: str


def forgetting_page(title: str, matrix: ForgettingMatrix, company: str = "") -> str:
    """Return the matrix as a heat map: experts down, sets across, the base at the top."""
    rows = [
        MatrixRow(expert, _cells(expert, perplexities, matrix))
        for expert, perplexities in zip(matrix.experts, matrix.perplexity, strict=True)
    ]
    found = [
        (row.name, one, cell)
        for row in rows
        for one, cell in zip(matrix.sets, row.cells, strict=True)
        if cell.shade.startswith("worse")
    ]
    return render(
        "forgetting.html.jinja",
        title=title,
        company=company,
        sets=matrix.sets,
        base=MatrixRow("base", tuple(MatrixCell(value, value, own=False) for value in matrix.base)),
        rows=rows,
        worst=max(found, key=lambda entry: entry[2].ratio, default=None),
        steps=STEPS,
        legend=[_key(step) for step in range(-STEPS, STEPS + 1)],
    )


def shade(ratio: float) -> str:
    """Return the class of a ratio's colour: `better-4` to `better-1`, `same`, `worse-1` to `worse-4`, or `none`."""
    if not isfinite(ratio) or ratio <= 0:
        return "none"
    return _name(max(-STEPS, min(STEPS, round(STEPS * log2(ratio)))))


def show_ratio(ratio: float) -> str:
    """Return a ratio as a factor."""
    if not isfinite(ratio):
        return "n/a"
    return TIMES + (f"{ratio:.2g}" if 0 < ratio < 0.00995 else PERPLEXITY.show(ratio))


def _name(step: int) -> str:
    return "same" if step == 0 else f"{'better' if step < 0 else 'worse'}-{abs(step)}"


def _key(step: int) -> ScaleKey:
    bound = {-STEPS: "≤ ", STEPS: "≥ "}.get(step, "")
    return ScaleKey(_name(step), bound + show_ratio(2 ** (step / STEPS)))


def _cells(expert: str, perplexities: tuple[float, ...], matrix: ForgettingMatrix) -> tuple[MatrixCell, ...]:
    department = expert.rpartition("@")[0]
    columns = zip(matrix.sets, perplexities, matrix.base, strict=True)
    return tuple(MatrixCell(value, base, own=name == department) for name, value, base in columns)
