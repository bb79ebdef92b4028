"""Does an answer fit its own question better than others? Tone alone wins words; knowledge wins the right ones."""

import random
from collections.abc import Callable, Sequence

from quintet.evaluation.bootstrap import paired_interval
from quintet.evaluation.results import Interval

OTHERS = 5
"""How many other questions' references each answer is held against."""


def specificity(
    answers: Sequence[str], references: Sequence[str], score: Callable[[str, str], float], *, seed: int
) -> Interval | None:
    """Return the mean, and its 95% interval, of the score with the own reference minus that with other questions'.

    The others are drawn, up to five an answer, among the references that differ from its own. An expert that learnt
    the tone of a department and none of its facts is at zero. None when all references are the same.
    """
    draw = random.Random(seed)
    kinds = sorted(set(references))
    if len(kinds) < 2:
        return None
    own, others = [], []
    for answer, reference in zip(answers, references, strict=True):
        drawn = [kind for kind in draw.sample(kinds, min(OTHERS + 1, len(kinds))) if kind != reference][:OTHERS]
        own.append(score(answer, reference))
        others.append(sum(score(answer, other) for other in drawn) / len(drawn))
    return paired_interval(own, others, seed=seed)
