"""A text → the words and pieces of words that the router counts, when it learns and when it answers. Counts none."""

import re
from collections.abc import Iterator
from itertools import pairwise

LONGEST_TEXT = 500
"""Characters of a question that are read: no longer question says more about whose it is."""
_WORD = re.compile(r"\w+")
_LENGTHS = (3, 4, 5)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, and each two that stand side by side."""
    found = _words(text)
    return found + [f"{one} {other}" for one, other in pairwise(found)]


def pieces(text: str) -> list[str]:
    """Return the runs of 3 to 5 characters of each word, a space usage for where it begins and ends."""
    return [piece for word in _words(text) for piece in _pieces(f" {word} ")]


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:LONGEST_TEXT].lower())


def _pieces(word: str) -> Iterator[str]:
    for length in _LENGTHS:
        for start in range(max(1, len(word) - length + 1)):
            yield word[start : start + length]
