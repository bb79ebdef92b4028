"""Scores of one answer against its reference. Knows nothing of models."""

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> list[str]:
    """Return the words that count: lower case, no punctuation, no articles (SQuAD, Rajpurkar et al. 2016)."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, reference: str) -> float:
    """Return 1.0 when both have the same normalised words in the same order, else 0.0."""
    return float(normalise(answer) == normalise(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of word precision and recall, over bags of words (SQuAD, Rajpurkar et al. 2016).

    With m shared words, precision is m/|answer| and recall m/|reference|. Two empty texts score 1.
    """
    found, wanted = normalise(answer), normalise(reference)
    shared = sum((Counter(found) & Counter(wanted)).values())
    if not found or not wanted:
        return float(found == wanted)
    return 2 * shared / (len(found) + len(wanted))
