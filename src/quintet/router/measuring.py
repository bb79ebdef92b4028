"""How well a router tells held-out questions apart, and how many it sends that are nobody's. Changes nothing.

The held-out questions have calibrated the router and chosen its threshold. What depends on those is therefore measured
in two halves: each half with the calibration and the threshold that the other half gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quintet.router.fitting import NOBODY, calibrate, find_threshold, label, probabilities, weigh
from quintet.router.questions import LabelledQuestion
from quintet.router.router import Router

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

BINS = 10
THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Sent:
    """What is sent by a threshold: shares of the departments' questions, and of those that are nobody's.

    `wrong` is the share of what is sent of the departments' questions that goes to another department.
    """

    threshold: float
    sent: float
    wrong: float
    nobodys: float


@dataclass(frozen=True)
class RouterScores:
    """What was measured; `confusion[i][j]` counts questions of department i of which j is the likeliest.

    `ece` is the expected calibration error: the mean distance of how sure it was from how often it was right.
    """

    questions: int
    nobodys: int
    accuracy: float
    macro_f1: float
    ece: float
    chosen: Sent
    curve: tuple[Sent, ...]
    departments: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Scored:
    """Questions with what the router says: the number of each one's department, -1 for nobody, and N x K scores."""

    labels: "Ints"
    scores: "Floats"

    def __getitem__(self, rows: "Ints | slice") -> "_Scored":
        return _Scored(self.labels[rows], self.scores[rows])


def measure_router(
    router: Router, held_out: Sequence[LabelledQuestion], general: Sequence[LabelledQuestion]
) -> RouterScores:
    """Return what the router does with its held-out questions, and with general ones that are nobody's.

    Each department has held-out questions, and so has nobody.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    scored, strangers = _score(router, held_out), _score(router, general)
    own = scored[np.flatnonzero(scored.labels != NOBODY)]
    best, classes = own.scores.argmax(1), range(len(router.departments))
    crossed = list(_crossed(scored, strangers, router.max_error))
    return RouterScores(
        questions=len(own.labels),
        nobodys=len(strangers.labels),
        accuracy=float(accuracy_score(own.labels, best)),
        macro_f1=float(f1_score(own.labels, best, labels=classes, average="macro", zero_division=0)),
        ece=float(np.mean([calibration_error(half) for half, _, _ in crossed])),
        chosen=_mean(router.threshold, [_sent(*one) for one in crossed]),
        curve=tuple(_mean(at, [_sent(half, general_, at) for half, general_, _ in crossed]) for at in THRESHOLDS),
        departments=router.departments,
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(own.labels, best, labels=classes)),
    )


def calibration_error(scored: _Scored) -> float:
    """Return the mean, over ten equally wide bins weighed by their size, of |mean probability - share that is right|.

    Departments count the same, and so does nobody, for whom every department is wrong.
    """
    found, weights = probabilities(scored.scores), weigh(scored.labels)
    surest, right = found.max(1), found.argmax(1) == scored.labels
    bins = np.minimum((surest * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights * (surest - right), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _score(router: Router, questions: Sequence[LabelledQuestion]) -> _Scored:
    labels = label(questions, router.departments)
    return _Scored(labels, np.array([router.scores(question.text) for question in questions], dtype=float))


def _crossed(scored: _Scored, general: _Scored, max_error: float) -> Iterator[tuple[_Scored, _Scored, float]]:
    """Yield each half, with the general questions, both as the other half calibrates them, and its threshold."""
    # By turns within each label, so that both halves have all.
    order = np.argsort(scored.labels, kind="stable")
    for turn in (0, 1):
        half, other = scored[order[turn::2]], scored[order[1 - turn :: 2]]
        weights = weigh(other.labels)
        slope, offset = calibrate(other.scores, other.labels, weights)
        threshold = find_threshold(slope * other.scores + offset, other.labels, weights, max_error)
        yield _scaled(half, slope, offset), _scaled(general, slope, offset), threshold


def _scaled(scored: _Scored, slope: float, offset: float) -> _Scored:
    return _Scored(scored.labels, slope * scored.scores + offset)


def _sent(half: _Scored, general: _Scored, threshold: float) -> Sent:
    own = half[np.flatnonzero(half.labels != NOBODY)]
    found = probabilities(own.scores)
    is_sent, is_right = found.max(1) >= threshold, found.argmax(1) == own.labels
    bothered = probabilities(general.scores).max(1) >= threshold
    wrong = float((~is_right[is_sent]).mean()) if is_sent.any() else 0.0
    return Sent(threshold, float(is_sent.mean()), wrong, float(bothered.mean()))


def _mean(threshold: float, halves: Sequence[Sent]) -> Sent:
    each = np.array([(half.sent, half.wrong, half.nobodys) for half in halves])
    return Sent(threshold, *map(float, each.mean(0)))
