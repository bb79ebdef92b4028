"""Markdown → passages: cut at headings, then between paragraphs. Knows nothing of files or of questions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

from quintet.data.documents.reading import Document

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r" {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$")
UNDERLINE = re.compile(r" {0,3}(=+|-{2,})\s*$")
TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
LIST_ITEM = re.compile(r"\s*([-*+]|\d+[.)])\s")
# Chinese, Japanese, Thai and Khmer put no spaces between words; and a run of forty letters is no one word.
_UNSPACED = r"\u0e00-\u0e7f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(rf"[{_UNSPACED}]|[^\s|{_UNSPACED}]{{1,40}}")
SENTENCE = re.compile(r".+?(?:[.!?][\"')\]]*(?=\s|$)|[。！？]|$)\s*", re.DOTALL)  # noqa: RUF001


@dataclass(frozen=True)
class Passage:
    """A piece of a document; `heading` is the path of headings above it, `number` its place in the file, from 1."""

    file: str
    heading: tuple[str, ...]
    number: int
    text: str

    @property
    def id(self) -> str:
        """The passage's name, which no other has."""
        return f"{self.file}#{self.number}"

    @property
    def source(self) -> str:
        """Where the passage stands, for people: `file.md > Heading > Subheading`."""
        return " > ".join((self.file, *self.heading))


class _Kind(Enum):
    PARAGRAPH = auto()
    TABLE = auto()
    FENCE = auto()


@dataclass(frozen=True)
class _Block:
    kind: _Kind
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def count_words(text: str) -> int:
    """Return how many words a text has; a script without spaces counts a word per character."""
    return sum(1 for _ in WORD.finditer(text))


def cut(document: Document, max_words: int) -> list[Passage]:
    """Return the passages of a document, in order, each of at most `max_words` words.

    Nothing is left out, and only a table's row that is longer with its header makes a longer passage.
    """
    passages: list[Passage] = []
    for heading, blocks in _sections(document.text):
        for text in _pack(blocks, max_words):
            passages.append(Passage(document.name, heading, len(passages) + 1, text))
    return passages


def _sections(text: str) -> Iterator[tuple[tuple[str, ...], list[_Block]]]:
    """Yield the headings above, and the blocks below, each heading."""
    path: dict[int, str] = {}
    blocks: list[_Block] = []
    for part in _parts(text.expandtabs().splitlines()):
        if isinstance(part, _Block):
            blocks.append(part)
            continue
        yield tuple(path.values()), blocks
        level, title = part
        path = {above: name for above, name in path.items() if above < level} | ({level: title} if title else {})
        blocks = []
    yield tuple(path.values()), blocks


def _parts(lines: Sequence[str]) -> Iterator[_Block | tuple[int, str]]:
    """Yield the blocks of a text, and its headings as level and title."""
    place = 0
    while place < len(lines):
        if not lines[place].strip():
            place += 1
        elif FENCE.match(lines[place]):
            fence, place = _fence(lines, place)
            yield fence
        elif heading := HEADING.match(lines[place]):
            yield len(heading[1]), heading[2] or ""
            place += 1
        else:
            end = _end_of_paragraph(lines, place)
            yield from _paragraph(lines[place:end])
            place = end


def _fence(lines: Sequence[str], start: int) -> tuple[_Block, int]:
    """Return the block between two fences, closed where the text forgot to, and the line after it."""
    opening = FENCE.match(lines[start])
    mark = opening[1] if opening else ""
    closing = (place for place in range(start + 1, len(lines)) if lines[place].strip().startswith(mark))
    end = next(closing, len(lines))
    return _Block(_Kind.FENCE, (*lines[start:end], mark)), end + 1


def _end_of_paragraph(lines: Sequence[str], start: int) -> int:
    breaks = (
        place
        for place in range(start + 1, len(lines))
        if not lines[place].strip() or FENCE.match(lines[place]) or HEADING.match(lines[place])
    )
    return next(breaks, len(lines))


def _paragraph(lines: Sequence[str]) -> Iterator[_Block | tuple[int, str]]:
    """Yield a paragraph, or what it turns out to be: an underlined heading, a rule, or a table with text before it."""
    if len(lines) == 2 and UNDERLINE.match(lines[1]):
        yield (1 if "=" in lines[1] else 2), lines[0].strip()
        return
    if re.fullmatch(r"\s*([-*_])(\s*\1){2,}\s*", "\n".join(lines)):
        return
    start = next((n for n in range(len(lines) - 1) if "|" in lines[n] and _is_rule(lines[n + 1])), None)
    if start is None:
        yield _Block(_Kind.PARAGRAPH, tuple(line.rstrip() for line in lines))
        return
    end = next((n for n in range(start + 2, len(lines)) if "|" not in lines[n]), len(lines))
    if start:
        yield _Block(_Kind.PARAGRAPH, tuple(lines[:start]))
    yield _Block(_Kind.TABLE, tuple(lines[start:end]))
    if lines[end:]:
        yield from _paragraph(lines[end:])


def _is_rule(line: str) -> bool:
    return "|" in line and TABLE_RULE.match(line) is not None


def _pack(blocks: list[_Block], max_words: int) -> Iterator[str]:
    """Yield texts of at most so many words, each of as many whole blocks as fit."""
    held: list[str] = []
    words = 0
    for block in blocks:
        for piece in _split(block, max_words):
            size = count_words(piece)
            if held and words + size > max_words:
                yield "\n\n".join(held)
                held, words = [], 0
            held.append(piece)
            words += size
    if held:
        yield "\n\n".join(held)


def _split(block: _Block, max_words: int) -> list[str]:
    """Return the block whole where it fits, else in pieces that do."""
    if count_words(block.text) <= max_words:
        return [block.text]
    if block.kind is _Kind.TABLE:
        header = block.lines[:2]
        room = max_words - count_words("\n".join(header))
        return ["\n".join((*header, piece)) for piece in _gather(block.lines[2:], room, "\n")]
    if block.kind is _Kind.FENCE:
        first, last = block.lines[0], block.lines[-1]
        inner = [piece for line in block.lines[1:-1] for piece in _cut_long(line, max_words - 2)]
        return [f"{first}\n{piece}\n{last}" for piece in _gather(inner, max_words - 2, "\n")]
    if any(LIST_ITEM.match(line) for line in block.lines):
        items: list[str] = []
        for line in block.lines:
            if items and not LIST_ITEM.match(line):
                items[-1] += "\n" + line
            else:
                items.append(line)
        units, glue = items, "\n"
    else:
        units, glue = [sentence.strip() for sentence in SENTENCE.findall(block.text)], " "
    pieces = [piece for unit in units for piece in _cut_long(unit, max_words)]
    return list(_gather(pieces, max_words, glue))


def _cut_long(text: str, max_words: int) -> list[str]:
    """Return the text whole where it fits, else cut between words."""
    ends = [word.end() for word in WORD.finditer(text)]
    cuts = [0, *ends[max_words - 1 : -1 : max_words], len(text)]
    return [text[start:end].strip() for start, end in pairwise(cuts)] if len(cuts) > 2 else [text]


def _gather(units: Sequence[str], max_words: int, glue: str) -> Iterator[str]:
    """Yield neighbouring units together, as many as fit."""
    held: list[str] = []
    words = 0
    for unit in units:
        size = count_words(unit)
        if held and words + size > max_words:
            yield glue.join(held)
            held, words = [], 0
        held.append(unit)
        words += size
    if held:
        yield glue.join(held)
