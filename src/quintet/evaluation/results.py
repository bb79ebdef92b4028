"""What an evaluation found, as plain values that become evaluation.json and come back. Measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

BASE, EXPERT, LIVE = "base", "expert", "live"
"""The contestants: the bare base, the expert in question, and the one that is released now, where there is one."""


@dataclass(frozen=True)
class Interval:
    """A mean, and the 95% bootstrap interval around it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcomes:
    """On how many items the expert's token F1 was above, equal to and below the other's."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class AnswerText:
    """One contestant's answer to one item: its text, its length, whether it ended its turn, and its metrics by name."""

    text: str
    tokens: int
    ended: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Item:
    """One held-out question, its reference answer, and what each contestant said."""

    question: str
    reference: str
    answers: Mapping[str, AnswerText]


@dataclass(frozen=True)
class Comparison:
    """The expert against one other: metric → its mean difference, expert minus other, and the items by outcome."""

    intervals: Mapping[str, Interval]
    outcomes: Outcomes


@dataclass(frozen=True)
class ClassScores:
    """One label's precision, recall and F1, from 0 to 1, and how many items have it as their reference."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class LabelScores:
    """A contestant on a label task.

    `confusion[i][j]` counts the items of label i that were answered with label j; the last column is that of answers
    that are no label at all, whose share is `no_label`.
    """

    accuracy: float
    macro_f1: float
    no_label: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Preferences:
    """What an expert makes of held-out pairs.

    With r(y) = log p_expert(y|x) - log p_start(y|x), the implicit reward without its factor beta (Rafailov et al.
    2023, arXiv:2305.18290, equation 5): `accuracy` is the share of pairs with r(chosen) > r(rejected), `margin` the
    mean of r(chosen) - r(rejected) in nats. `start_likelier` and `expert_likelier` are the shares of pairs whose
    chosen answer is the likelier one, which length decides too.
    """

    pairs: int
    accuracy: float
    margin: float
    start_likelier: float
    expert_likelier: float


@dataclass(frozen=True)
class Judged:
    """How a judge found the expert's answers beside one other's, each pair asked in both orders.

    `verdicts` holds a word for each item: `win`, `tie`, `loss`, `inconsistent` where the two orders disagree, which is
    counted among the `ties` too, and `unreadable` where a reply held no verdict. `url` is without secrets, `prompt`
    what was asked, with the names of its fields.
    """

    model: str
    url: str
    prompt: str
    wins: int
    ties: int
    losses: int
    inconsistent: int
    unreadable: int
    verdicts: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """What an expert is worth beside its base and the live release.

    `specificity` is the expert's mean token F1 with the own reference, above that with other questions' references.
    `names` are the contestants' names (`base`, `hr@3`), `scores` contestant → metric → value over all items,
    `comparisons` other contestant → the expert against it. `identity` is the digest of all that went into it.
    `precision` is what the weights were rounded to, as they are when served.

    Only where models elsewhere were asked: `judged` is other contestant → the judge's verdicts, `similarity`
    contestant → the cosine of answer and reference for each item, by the embeddings of `similarity_model`.
    """

    department: str
    method: str
    base_model: str
    identity: str
    names: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Comparison]
    items: tuple[Item, ...]
    signature: str
    precision: str = "float32"
    specificity: Interval | None = None
    labels: Mapping[str, LabelScores] = field(default_factory=dict)
    preferences: Preferences | None = None
    judged: Mapping[str, Judged] = field(default_factory=dict)
    similarity: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    similarity_model: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What one rule of the gate says: what was found, the limit it was held against, and both in words."""

    rule: str
    passed: bool
    found: float
    limit: float
    said: str


@dataclass(frozen=True)
class ForgettingMatrix:
    """What each expert has forgotten or learnt: the perplexity of held-out references on every set.

    `base[j]` is the base's on set j, `perplexity[i][j]` that of expert i on set j. `sets` are departments, by name, and
    whatever stands for everything else (`general`).
    """

    experts: tuple[str, ...]
    sets: tuple[str, ...]
    base: tuple[float, ...]
    perplexity: tuple[tuple[float, ...], ...]
