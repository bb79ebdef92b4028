"""One expert's evaluation → one HTML page that needs no server and fetches nothing. Measures and decides nothing."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, nan

from quintet.evaluation.reports.metric_words import DASH, F1, SIMILARITY, Metric, describe, plain
from quintet.evaluation.reports.pages import render
from quintet.evaluation.reports.report_charts import Axis, Bar, axis_over, histograms
from quintet.evaluation.results import (
    BASE,
    EXPERT,
    LIVE,
    AnswerText,
    Comparison,
    Evaluation,
    Interval,
    Item,
    Judged,
    LabelScores,
    Outcomes,
    Verdict,
)
from quintet.evaluation.similarity import mean_similarity

REGRESSIONS = 10
"""How many of the items that got worse stand at the top."""

SHADES = 4
"""Shades of a confusion matrix, beside none at all."""


@dataclass(frozen=True)
class Contestant:
    """One of those that answered: its key in the evaluation, its name, and what it is."""

    key: str
    name: str
    role: str


@dataclass(frozen=True)
class Difference:
    """Expert minus other on one metric, in words: `reading` is better, worse, unclear or nothing."""

    metric: Metric
    interval: Interval

    @property
    def reading(self) -> str:
        """What the interval says; an interval with zero in it says nothing."""
        better = self.metric.better
        if better == 0:
            return ""
        if self.interval.low * better > 0 and self.interval.high * better > 0:
            return "better"
        return "worse" if self.interval.low * better < 0 and self.interval.high * better < 0 else "unclear"

    @property
    def mean(self) -> str:
        """The mean with its sign."""
        return self.metric.show_signed(self.interval.mean)

    @property
    def range(self) -> str:
        """Both ends of the interval."""
        return f"{self.metric.show(self.interval.low)} to {self.metric.show(self.interval.high)}"


@dataclass(frozen=True)
class MetricRow:
    """One metric of the table: each contestant's value, and the difference to each other one."""

    metric: Metric
    values: tuple[str, ...]
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True)
class Mark:
    """A point and its whisker in the interval plot, in percent from the left."""

    difference: Difference
    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Duel:
    """The expert against one other: its wins, ties and losses, and the interval plot's axis and marks."""

    other: Contestant
    comparison: Comparison
    axis: Axis
    marks: tuple[Mark, ...]

    @property
    def shares(self) -> tuple[tuple[str, int, float], ...]:
        """Outcome, count and percent of all items."""
        return _shares(self.comparison.outcomes)


@dataclass(frozen=True)
class Hearing:
    """What the judge made of the expert beside one other."""

    other: Contestant
    judged: Judged

    @property
    def shares(self) -> tuple[tuple[str, int, float], ...]:
        """Outcome, count and percent of all items; what is unreadable is the rest."""
        return _shares(self.judged, self.judged.unreadable)


@dataclass(frozen=True)
class ReportedAnswer:
    """One contestant's answer and its F1 in words."""

    by: Contestant
    said: AnswerText
    f1: str


@dataclass(frozen=True)
class Shown:
    """One item as the page shows it: `outcomes` and `changes` of F1 in the order of the duels; the judge's verdicts."""

    number: int
    item: Item
    answers: tuple[ReportedAnswer, ...]
    outcomes: tuple[str, ...]
    changes: tuple[float, ...]
    verdicts: tuple[tuple[Contestant, str], ...] = ()


@dataclass(frozen=True)
class ConfusionCell:
    """One count of a confusion matrix and its shade, 0 to SHADES, by its share of the row."""

    count: int
    shade: int


def report_page(
    evaluation: Evaluation, verdicts: Sequence[Verdict], curve: bytes | None = None, company: str = ""
) -> str:
    """Return the page; `curve` is the PNG of the run's losses, and no verdicts mean that no gate was asked."""
    roles = {BASE: "", LIVE: "live release", EXPERT: "this expert"}
    others = [key for key in evaluation.names if key not in roles]
    order = [key for key in (BASE, LIVE, *others, EXPERT) if key in evaluation.names]
    contestants = [Contestant(key, evaluation.names[key], roles.get(key, "")) for key in order]
    duels = _duels(evaluation, contestants)
    hearings = [Hearing(one, evaluation.judged[one.key]) for one in contestants if one.key in evaluation.judged]
    metrics = describe(key for scores in evaluation.scores.values() for key in scores)
    f1 = F1
    items = [
        replace(
            _show(number, item, contestants, [duel.other.key for duel in duels], f1),
            verdicts=tuple((hearing.other, hearing.judged.verdicts[number - 1]) for hearing in hearings),
        )
        for number, item in enumerate(evaluation.items, 1)
    ]
    return render(
        "report.html.jinja",
        script="report.js",
        company=company,
        evaluation=evaluation,
        contestants=contestants,
        expert=evaluation.names.get(EXPERT, EXPERT),
        verdicts=sorted(verdicts, key=lambda verdict: verdict.passed),
        blocked=[verdict for verdict in verdicts if not verdict.passed],
        f1=f1,
        rows=[
            *(_row(metric, evaluation, contestants, duels) for metric in metrics),
            *_similarity_row(evaluation, contestants, duels),
        ],
        duels=duels,
        hearings=hearings,
        histograms=_f1_histograms(evaluation, contestants, f1),
        labels=_labels(evaluation.labels, contestants),
        items=items,
        regressions=_regressions(items),
        changed=f1.show_signed,
        plain=plain,
        exp=exp,
        curve=None if curve is None else b64encode(curve).decode("ascii"),
    )


def _shares(counts: Outcomes | Judged, rest: int = 0) -> tuple[tuple[str, int, float], ...]:
    total = counts.wins + counts.ties + counts.losses + rest or 1
    named = (("win", counts.wins), ("tie", counts.ties), ("loss", counts.losses))
    return tuple((name, count, round(100 * count / total, 2)) for name, count in named)


def _duels(evaluation: Evaluation, contestants: Sequence[Contestant]) -> list[Duel]:
    found = [(one, evaluation.comparisons[one.key]) for one in contestants if one.key in evaluation.comparisons]
    return [_duel(other, comparison) for other, comparison in found]


def _duel(other: Contestant, comparison: Comparison) -> Duel:
    # What has no number has no place in the plot: the table still says so.
    scaled = [(metric, ends) for metric, *ends in _on_one_scale(comparison) if all(map(isfinite, ends))]
    # An axis of its own: beside a base that is far behind, the step from the live release would be too small to see.
    axis = axis_over(end for _, ends in scaled for end in ends)
    marks = (
        Mark(Difference(metric, comparison.intervals[metric.key]), *map(axis.place, ends)) for metric, ends in scaled
    )
    return Duel(other, comparison, axis, tuple(marks))


def _on_one_scale(comparison: Comparison) -> list[tuple[Metric, float, float, float]]:
    """Return metric, low, mean and high as shares of the whole, for the metrics that have one."""
    intervals = comparison.intervals
    scaled = [(metric, intervals[metric.key], metric.whole) for metric in describe(intervals)]
    return [(m, i.low / whole, i.mean / whole, i.high / whole) for m, i, whole in scaled if whole is not None]


def _row(metric: Metric, evaluation: Evaluation, contestants: Sequence[Contestant], duels: Sequence[Duel]) -> MetricRow:
    values = [evaluation.scores.get(one.key, {}).get(metric.key) for one in contestants]
    intervals = [duel.comparison.intervals.get(metric.key) for duel in duels]
    return MetricRow(
        metric,
        tuple(DASH if value is None else metric.show(value) for value in values),
        tuple(None if interval is None else Difference(metric, interval) for interval in intervals),
    )


def _similarity_row(
    evaluation: Evaluation, contestants: Sequence[Contestant], duels: Sequence[Duel]
) -> list[MetricRow]:
    """Return the row of the mean similarities, if there are any; no interval was made of them."""
    (metric,) = describe([SIMILARITY])
    means = mean_similarity(evaluation)
    values = tuple(metric.show(means[one.key]) if one.key in means else DASH for one in contestants)
    return [MetricRow(metric, values, tuple(None for _ in duels))] if means else []


def _f1_histograms(
    evaluation: Evaluation, contestants: Sequence[Contestant], f1: Metric
) -> list[tuple[Contestant, list[Bar]]]:
    series = [
        [item.answers[one.key].metrics.get(f1.key, nan) for item in evaluation.items if one.key in item.answers]
        for one in contestants
    ]
    return list(zip(contestants, histograms(series), strict=True))


def _show(number: int, item: Item, contestants: Sequence[Contestant], others: Sequence[str], f1: Metric) -> Shown:
    scores = {key: said.metrics.get(f1.key, nan) for key, said in item.answers.items()}
    changes = tuple(scores.get(EXPERT, nan) - scores.get(other, nan) for other in others)
    return Shown(
        number,
        item,
        tuple(
            ReportedAnswer(one, item.answers[one.key], f1.show(scores[one.key]))
            for one in contestants
            if one.key in item.answers
        ),
        tuple("win" if change > 0 else "loss" if change < 0 else "tie" for change in changes),
        changes,
    )


def _regressions(items: Sequence[Shown]) -> list[Shown]:
    """Return the items that lost most against any other, worst first."""
    lost = [item for item in items if "loss" in item.outcomes]
    return sorted(lost, key=lambda item: min(change for change in item.changes if change < 0))[:REGRESSIONS]


def _labels(
    labels: Mapping[str, LabelScores], contestants: Sequence[Contestant]
) -> list[tuple[Contestant, LabelScores, list[list[ConfusionCell]]]]:
    """Return each contestant's scores and shaded confusion matrix."""
    return [
        (
            one,
            labels[one.key],
            [
                [ConfusionCell(count, -(-SHADES * count // (sum(row) or 1))) for count in row]
                for row in labels[one.key].confusion
            ],
        )
        for one in contestants
        if one.key in labels
    ]
