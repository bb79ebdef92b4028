"""Questions → a trained router: scikit-learn fits it, and questions that it has not seen calibrate it.

Every department counts the same, however many rows it has, and nobody's questions count as one department more. What
the router says of held-out questions decides two things: a slope and an offset that make its probabilities true
(Platt's scaling, by the likelihood of whose question it was), and the threshold, the lowest above which no more than
`max_error` of what is sent is sent wrongly, nobody's questions too.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from quintet.router.questions import LabelledQuestion, Questions
from quintet.router.router import BLOCKS, Block, Router

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from sklearn.pipeline import FeatureUnion

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

INVERSE_REGULARISATION = 15.0
FEW = 200
"""In fewer questions than this, an n-gram that occurs once counts too."""
NOBODY = -1
NEVER = math.inf
"""A threshold that nothing reaches."""


def fit_router(departments: Sequence[str], questions: Questions, max_error: float, digest: str = "") -> Router:
    """Return the router of `departments`, each of which has questions to learn from and held-out ones."""
    fitted = _fit(questions.train, departments)
    labels = label(questions.held_out, departments)
    weights = weigh(labels)
    scores = fitted.scores([question.text for question in questions.held_out])
    slope, offset = calibrate(scores, labels, weights)
    threshold = find_threshold(slope * scores + offset, labels, weights, max_error)
    intercepts_K = (slope * fitted.intercepts_K + offset).astype(np.float32)
    return Router(tuple(departments), fitted.blocks(slope), intercepts_K, threshold, max_error, digest)


def label(questions: Sequence[LabelledQuestion], departments: Sequence[str]) -> "Ints":
    """Return the number of each question's department, -1 for nobody."""
    return np.array([NOBODY if one.department is None else departments.index(one.department) for one in questions])


def weigh(labels: "Ints") -> "Floats":
    """Return weights by which all departments count the same, and nobody too; their mean is 1."""
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights: Floats = len(labels) / len(counts) / counts[places]
    return weights


def probabilities(scores: "Floats") -> "Floats":
    """Return how likely each department is, row by row; what is missing to 1 is nobody."""
    odds = np.exp(np.minimum(scores, 50.0))
    found: Floats = odds / (1 + odds.sum(1, keepdims=True))
    return found


def calibrate(scores: "Floats", labels: "Ints", weights: "Floats") -> tuple[float, float]:
    """Return the slope and offset of the scores under which the labels (-1 is nobody) are the likeliest.

    As in Platt's scaling, of n questions one in n + 2 is taken to be mislabelled: without that, scores that tell all of
    them apart would be scaled to certainty.
    """
    from scipy.optimize import minimize

    count = scores.shape[1]
    doubt = 1 / (len(labels) + 2)
    targets: Floats = np.full((len(labels), count + 1), doubt / count)
    # -1 is the last column.
    targets[np.arange(len(labels)), labels] = 1 - doubt

    def loss(values: "Floats") -> float:
        found = probabilities(math.exp(values[0]) * scores + values[1])
        whole = np.column_stack([found, 1 - found.sum(1)])
        return float(-(weights * (targets * np.log(np.maximum(whole, 1e-12))).sum(1)).sum() / weights.sum())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead")
    return math.exp(found.x[0]), float(found.x[1])


def find_threshold(scores: "Floats", labels: "Ints", weights: "Floats", max_error: float) -> float:
    """Return the lowest probability above which no more than `max_error` of what is sent is wrong."""
    found = probabilities(scores)
    surest, right = found.max(1), found.argmax(1) == labels
    order = np.argsort(-surest, kind="stable")
    wrong = np.cumsum((weights * ~right)[order]) / np.cumsum(weights[order])
    # Where several are equally sure, all of them are sent, or none.
    ends = np.append(np.diff(surest[order]) != 0, True)
    allowed = np.flatnonzero(ends & (wrong <= max_error))
    return float(surest[order][allowed[-1]]) if len(allowed) else NEVER


class _Fitted(NamedTuple):
    """What scikit-learn made: counters of V n-grams in all, and what each n-gram says for each of K departments."""

    counters: "FeatureUnion"
    coefficients_VK: "Floats"
    intercepts_K: "Floats"

    def scores(self, texts: Sequence[str]) -> "Floats":
        found: Floats = self.counters.transform(texts) @ self.coefficients_VK + self.intercepts_K
        return found

    def blocks(self, slope: float) -> dict[str, Block]:
        """Return the counters with their share of the coefficients, each times `slope`."""
        blocks, start = {}, 0
        for kind, counter in self.counters.transformer_list:
            end = start + len(counter.vocabulary_)
            weights = (slope * self.coefficients_VK[start:end]).astype(np.float32)
            vocabulary = {str(ngram): number for number, ngram in enumerate(counter.get_feature_names_out())}
            blocks[kind] = Block(vocabulary, counter.idf_.astype(np.float32), weights)
            start = end
        return blocks


def _fit(questions: Sequence[LabelledQuestion], departments: Sequence[str]) -> _Fitted:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    texts = [question.text for question in questions]
    labels = label(questions, departments)
    weights = weigh(labels)
    least = 2 if len(texts) >= FEW else 1
    counters = FeatureUnion(
        [(kind, TfidfVectorizer(analyzer=ngrams, sublinear_tf=True, min_df=least)) for kind, ngrams in BLOCKS.items()]
    )
    features = counters.fit_transform(texts)
    columns = [_yes_or_no(features, labels == number, weights) for number in range(len(departments))]
    return _Fitted(counters, np.stack([column for column, _ in columns], 1), np.array([start for _, start in columns]))


def _yes_or_no(features: "csr_matrix", is_its: "NDArray[np.bool_]", weights: "Floats") -> tuple["Floats", float]:
    """Return the coefficients and the intercept of one department."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_REGULARISATION, solver="liblinear", max_iter=1000)
    model.fit(features, is_its, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])
