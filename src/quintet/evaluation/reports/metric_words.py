"""A metric as people read it: its name, its precision, and which way is better. Computes none."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, isnan

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Metric:
    """How one metric is shown.

    `better` is 1 where more is better, -1 where less is, 0 where neither is. `decimals` of None means three digits, at
    most two of them after the point. `whole` is what a perfect answer scores: 1 for shares, 100 for BLEU, None where
    there is no such number.
    """

    key: str
    name: str
    decimals: int | None = 2
    better: int = 1
    whole: float | None = 1

    def show(self, value: float) -> str:
        """Return the value at this metric's precision."""
        return _digits(value, self.decimals)

    def show_signed(self, value: float) -> str:
        """Return a difference with its sign; one that rounds to nothing has none."""
        text = self.show(value)
        return text if value <= 0 or not text.strip("0.,") or isnan(value) else f"+{text}"


F1 = Metric("f1", "Token F1")
"""The metric that wins, ties and losses are counted by."""

SIMILARITY = "similarity"
"""Cosines of embeddings lie close together: the third decimal tells them apart."""

PERPLEXITY = Metric("perplexity", "Perplexity of the reference", None, -1, None)

_KNOWN = (
    F1,
    Metric("precision", "Precision"),
    Metric("recall", "Recall"),
    Metric("exact_match", "Exact match"),
    Metric("accuracy", "Accuracy"),
    Metric("macro_f1", "Macro F1"),
    Metric("no_label", "Answers that are no label", 2, -1),
    Metric("bleu", "BLEU", 1, 1, 100),
    Metric("chrf", "chrF", 1, 1, 100),
    Metric("rouge_l", "ROUGE-L"),
    Metric(SIMILARITY, "Semantic similarity", 3),
    PERPLEXITY,
    Metric("loss", "Loss of the reference, nats a token", 2, -1, None),
    Metric("general_perplexity", "Perplexity of general answers", None, -1, None),
    Metric("ended", "Ended its turn"),
    Metric("tokens", "Answer length, tokens", 1, 0, None),
)


def describe(keys: Iterable[str]) -> list[Metric]:
    """Return the metrics in reading order: the known ones, then the others by their own names."""
    wanted = list(dict.fromkeys(keys))
    known = [metric for metric in _KNOWN if metric.key in wanted]
    named = {metric.key for metric in known}
    others = [Metric(key, _spell(key), None, 0, None) for key in wanted if key not in named]
    return known + others


def plain(value: float) -> str:
    """Return a number of unknown kind to three significant digits."""
    if not isfinite(value) or abs(value) >= 1000:
        return _digits(value, None)
    return f"{value:.3g}".replace("-", MINUS)


def _spell(key: str) -> str:
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _digits(value: float, decimals: int | None) -> str:
    if isnan(value):
        return "n/a"
    sign = MINUS if value < 0 else ""
    size = abs(value)
    if not isfinite(value):
        return f"{sign}∞"
    if size >= 1e6:
        return f"{sign}{size:.1e}"
    if decimals is None:
        decimals = 2 if size < 9.995 else 1 if size < 99.95 else 0
    text = f"{size:,.{decimals}f}"
    return sign + text if text.strip("0.,") else text
