"""Text → the marks that a wrong decoding or an invisible character left in it; changes nothing, knows no rows.

Hindi and Persian joiners, Arabic and Hebrew direction marks, emoji sequences and Thai word breaks are proper text
and are left alone: what is reported is invisible where no writing needs it, or damaged.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import ftfy
from ftfy.badness import is_bad

SHOWN_CHARACTERS = 24

_ASCII_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# UTF-8 read as something else leaves two characters beyond ASCII side by side, a C1 control, or one of these three
# letters before what was a non-breaking space. Only then is ftfy's costlier expression worth its time.
_MAYBE_MOJIBAKE = re.compile("[\x80-\x9f\u00c2\u00c3\u00e2]|[^\x00-\x7f]{2}")
_NEEDS_A_LOOK = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b-\u200d\u202a-\u202e\u2060\u2066-\u2069\ud800-\udfff\ue000-\uf8ff"
    "\ufdd0-\ufdef\ufeff\ufffd-\uffff\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdcf\ufdf0-\ufefc]")
_BREAKS_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_FLAG_WITH_TAGS = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")
# The scripts below this code point (Latin, Greek, Cyrillic, Armenian) join no letters by invisible characters.
_FIRST_JOINING = "\u0590"


def find_encoding_trouble(text: str) -> list[str]:
    """Return one phrase for each kind of damage: what it is, at which character (from 1), and the likely fix."""
    if text.isascii():
        suspects = _ASCII_CONTROLS
        mojibake = None
    else:
        suspects = _NEEDS_A_LOOK
        mojibake = _mojibake(text)
    found: dict[str, list[re.Match[str]]] = {}
    for match in suspects.finditer(text):
        trouble = next((t for t in TROUBLES if t.first <= match[0] <= t.last), None)
        if trouble and trouble.is_wrong(text, match.start()) and not (mojibake and "\x80" <= match[0] <= "\x9f"):
            found.setdefault(trouble.phrase, []).append(match)
    phrases = [_describe(phrase, matches) for phrase, matches in found.items()]
    return [mojibake, *phrases] if mojibake else phrases


def _describe(phrase: str, matches: list[re.Match[str]]) -> str:
    what, fix = phrase.split("; ")
    more = f" and {len(matches) - 1} more" if len(matches) > 1 else ""
    return f"{what} U+{ord(matches[0][0]):04X} at character {matches[0].start() + 1}{more}; {fix}"


def _mojibake(text: str) -> str | None:
    """Return what text decoded by the wrong table looks like and would be, by ftfy's badness heuristic."""
    if not (_MAYBE_MOJIBAKE.search(text) and is_bad(text)):
        return None
    mended = ftfy.fix_encoding(text)
    if mended == text:
        return None
    place = next((i for i, (a, b) in enumerate(zip(text, mended, strict=False)) if a != b), len(mended))
    start = max(text.rfind(" ", 0, place) + 1, place - SHOWN_CHARACTERS // 2)
    found, meant = _word(text, start, place), _word(mended, start, place)
    return f"mojibake at character {place + 1}: {found!r} was {meant!r}; decode the file as what it is, mostly UTF-8"


def _word(text: str, start: int, place: int) -> str:
    words = text[place : start + SHOWN_CHARACTERS].split(maxsplit=1)
    return text[start:place] + (words[0] if words else "")


def _always(text: str, place: int) -> bool:
    return True


def _is_joiner_in_a_plain_word(text: str, place: int) -> bool:
    around = text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
    return len(around) == 2 and all(c.isalnum() and c < _FIRST_JOINING for c in around)


def _is_no_word_break(text: str, place: int) -> bool:
    return not _BREAKS_WITHOUT_SPACES.search(text[max(place - 1, 0) : place + 2])


def _has_no_right_to_left(text: str, place: int) -> bool:
    return not _RIGHT_TO_LEFT.search(text)


def _is_no_flag(text: str, place: int) -> bool:
    return not any(m.start() < place < m.end() for m in _FLAG_WITH_TAGS.finditer(text, max(place - 8, 0), place + 8))


@dataclass(frozen=True)
class _Trouble:
    first: str
    last: str
    phrase: str
    is_wrong: Callable[[str, int], bool] = _always


_CONTROL = "control character; remove it"
_PRIVATE = "private-use character; replace it (often a bullet or icon of a symbol font)"
_INVISIBLE = "invisible character; remove it"
_DIRECTION = "invisible change of direction; remove it, it can hide what the text says"
_NOT_A_CHARACTER = "code that is no character; remove it"

TROUBLES = (
    _Trouble("\x00", "\x1f", _CONTROL),
    _Trouble("\x7f", "\x9f", _CONTROL),
    _Trouble("\xad", "\xad", "invisible soft hyphen; remove it"),
    _Trouble("\u200b", "\u200b", _INVISIBLE, _is_no_word_break),
    _Trouble("\u200c", "\u200d", "invisible joiner inside a word; remove it", _is_joiner_in_a_plain_word),
    # An override reverses any text; an embedding or isolate is proper where right-to-left text stands.
    _Trouble("\u202d", "\u202e", _DIRECTION),
    _Trouble("\u202a", "\u202c", _DIRECTION, _has_no_right_to_left),
    _Trouble("\u2066", "\u2069", _DIRECTION, _has_no_right_to_left),
    _Trouble("\u2060", "\u2060", _INVISIBLE),
    _Trouble("\ud800", "\udfff", "half a character (a lone surrogate); mend the text where it was cut"),
    _Trouble("\ue000", "\uf8ff", _PRIVATE),
    _Trouble("\ufdd0", "\ufdef", _NOT_A_CHARACTER),
    _Trouble("\ufeff", "\ufeff", "byte order mark inside the text; remove it"),
    _Trouble("\ufffd", "\ufffd", "replacement character; a character was lost here, take it from the source again"),
    _Trouble("\ufffe", "\uffff", _NOT_A_CHARACTER),
    _Trouble("\U000e0000", "\U000e007f", "invisible tag character; remove it, it can hide text", _is_no_flag),
    _Trouble("\U000f0000", "\U0010ffff", _PRIVATE),
)
