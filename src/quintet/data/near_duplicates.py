"""Texts → which of them say almost the same; knows nothing of rows, files or languages.

A text is compared as its set of words and of pairs of neighbouring words, in any case and spacing and without
punctuation at a word's ends. Words, not character n-grams, because the texts are short questions: one other word
("cancel" for "change", 2024 for 2023) is another question, yet leaves most of its character n-grams as they were.
The pairs keep the order ("dog bites man" is not "man bites dog").
"""

import re
import unicodedata
from collections.abc import Hashable
from itertools import pairwise
from math import sqrt

from rensa import RMinHash, RMinHashLSH

PERMUTATIONS = 128
SEED = 5
# Of the pairs at the threshold, so many must become candidates; pairs above it do so more surely still.
RECALL = 0.99

# What may stand at the ends of a word without being part of it, after the full-width forms were made plain.
SENTENCE_MARKS = ".,;:!?\"'()[]{}*_`~\u00a1\u00bf\u00ab\u00b7\u00bb\u060c\u061f\u0964\u201c\u201d\u201e\u3001\u3002"
# Thai, Lao, Burmese, Khmer, Chinese and Japanese put no spaces between words, so each character is a word here.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_DASHES = re.compile("[\u2013-\u2015]")


class NearDuplicates:
    """The distinct texts seen so far, and for each new one the earlier text it nearly repeats."""

    def __init__(self, threshold: float = 0.85) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold: expected more than 0 and at most 1, found {threshold}")
        self._threshold = threshold
        self._index = RMinHashLSH(threshold, PERMUTATIONS, fewest_bands(threshold))
        # An estimate this far below the threshold is one in a thousand for a pair at it: three standard errors.
        self._least_estimate = threshold - 3 * sqrt(threshold * (1 - threshold) / PERMUTATIONS)
        self._kept: list[tuple[Hashable, str, RMinHash]] = []

    def add(self, key: Hashable, text: str) -> Hashable | None:
        """Return the key of the earliest text found that this one nearly repeats, else None and remember the text."""
        words, signature = _signed(text)
        found = self._find(words, signature)
        if found is None:
            self._index.insert(len(self._kept), signature)
            self._kept.append((key, text, signature))
        return found

    def find(self, text: str) -> Hashable | None:
        """Return the key of the earliest text found that this one nearly repeats; remember nothing.

        Every candidate is compared exactly, so what is returned is never below the threshold; about one pair in a
        hundred right at the threshold is missed.
        """
        return self._find(*_signed(text))

    def _find(self, words: set[str], signature: RMinHash) -> Hashable | None:
        candidates: list[int] = sorted(self._index.query(signature))
        for place in candidates:
            earlier, earlier_text, earlier_signature = self._kept[place]
            # The estimate is a hundred times cheaper, which tells where thousands of texts share one template.
            if signature.jaccard(earlier_signature) < self._least_estimate:
                continue
            if jaccard(words, shingles(earlier_text)) >= self._threshold:
                return earlier
        return None


def _signed(text: str) -> tuple[set[str], RMinHash]:
    words = shingles(text)
    signature = RMinHash(PERMUTATIONS, SEED)
    signature.update(list(words))
    return words, signature


def shingles(text: str) -> set[str]:
    """Return the words of a text and its pairs of neighbouring words; never empty."""
    if not text.isascii():
        text = _plain(text)
    words = [word for piece in text.casefold().split() if (word := piece.strip(SENTENCE_MARKS))]
    if not words:
        return {text.strip()}
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}


def _plain(text: str) -> str:
    # Half a character (a lone surrogate) cannot be hashed as UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = unicodedata.normalize("NFKC", text).replace("\u2018", "'").replace("\u2019", "'")
    return _UNSPACED.sub(r" \g<0> ", _DASHES.sub(" ", text))


def jaccard(first: set[str], second: set[str]) -> float:
    """Return the share of the two sets' members that are in both."""
    both = len(first & second)
    return both / (len(first) + len(second) - both)


def fewest_bands(threshold: float) -> int:
    """Return the fewest bands, which let the fewest false candidates through, that keep the recall.

    A pair of similarity s agrees in one of b bands of r rows with probability 1 - (1 - s^r)^b (Leskovec,
    Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
    """
    bands = 1
    while bands < PERMUTATIONS and 1 - (1 - threshold ** (PERMUTATIONS // bands)) ** bands < RECALL:
        bands *= 2
    return bands
