"""PDF → Markdown. A PDF only says where each letter stands: headings and paragraphs are read off sizes and gaps."""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import TYPE_CHECKING, Any

import pdfplumber

from quintet.data.documents.tables import markdown_table

if TYPE_CHECKING:
    from pdfplumber.page import Page

HEADING_GROWTH = 1.15  # so many times the size of the body's letters makes a heading
LONGEST_HEADING = 150
SPACE = 0.15  # a gap of so much of a letter's size is a space; many programs write none
BULLET = re.compile(r"[•◦▪‣●○■–-]\s+")  # noqa: RUF001
CONTENTS = re.compile(r"(\s*\.){4,}\s*[\divxlc]+$")  # a line of a table of contents, which says where things stand
SENTENCE_END = (".", "!", "?", ":", "。", "！", "？")  # noqa: RUF001


@dataclass(frozen=True)
class _Piece:
    """A line or a table, and where it stands; lengths in points from the page's top left."""

    text: str
    size: float
    top: float
    bottom: float
    right: float
    table: bool = False


@dataclass(frozen=True)
class _Type:
    """How the document is set: the body's size, its gap between lines, its right edge, the sizes of headings."""

    size: float
    gap: float
    right: float
    headings: tuple[float, ...]

    def level(self, piece: _Piece) -> int:
        """Return the level of a heading, or 0."""
        heading = piece.size in self.headings and len(piece.text) <= LONGEST_HEADING
        return min(6, 1 + self.headings.index(piece.size)) if heading else 0


def pdf_to_markdown(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text as Markdown, and a note on the pages that are pictures only."""
    # Its warnings on slightly wrong files tell a user nothing.
    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    pages, pictures = [], []
    with pdfplumber.open(io.BytesIO(data)) as pdf:
        for page in pdf.pages:
            pages.append(_pieces(page))
            if not pages[-1] and page.images:
                pictures.append(str(page.page_number))
            page.close()
    note = f"no text on page {', '.join(pictures)}: a picture; recognise its text first (OCR)"
    return _markdown(pages), (note,) if pictures else ()


def _pieces(page: "Page") -> list[_Piece]:
    """Return the page's lines and tables, from top to bottom."""
    tables = [
        (table.bbox, rows)
        for table in page.find_tables()
        if len(rows := _rows(table.extract(x_tolerance_ratio=SPACE))) > 1
    ]
    boxes = [box for box, _ in tables]
    rest = page.filter(lambda thing: not any(_inside(thing, box) for box in boxes)).dedupe_chars()
    pieces = [
        _Piece(markdown_table(rows), 0, top, bottom, right, table=True) for (_, top, right, bottom), rows in tables
    ]
    pieces += [
        _Piece(line["text"].replace("\u00ad", ""), _size(line["chars"]), line["top"], line["bottom"], line["x1"])
        for line in rest.extract_text_lines(x_tolerance_ratio=SPACE)
        if not CONTENTS.search(line["text"])
    ]
    return sorted(pieces, key=lambda piece: piece.top)


def _rows(cells: list[list[str | None]]) -> list[list[str]]:
    """Return the rows of a table; none where the lines on the page are a frame and no table."""
    rows = [[cell or "" for cell in row] for row in cells]
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    return [row for row, count in zip(rows, filled, strict=True) if count] if max(filled, default=0) > 1 else []


def _inside(thing: dict[str, Any], box: tuple[float, float, float, float]) -> bool:
    x, y = (thing["x0"] + thing["x1"]) / 2, (thing["top"] + thing["bottom"]) / 2
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


def _size(letters: list[dict[str, Any]]) -> float:
    counts: Counter[float] = Counter(round(letter["size"] * 2) / 2 for letter in letters)
    return counts.most_common(1)[0][0]


def _markdown(pages: list[list[_Piece]]) -> str:
    lines = [piece for page in pages for piece in page if not piece.table]
    if not lines:
        return "\n\n".join(piece.text for page in pages for piece in page)
    kind = _measure(pages, lines)
    words = _Words([line.text for line in lines])
    blocks: list[str] = []
    previous: _Piece | None = None
    for piece in _without_furniture(pages, kind):
        if previous is not None and _continues(previous, piece, kind):
            blocks[-1] = words.join(blocks[-1], piece.text)
        else:
            blocks.append(_opening(piece, kind))
        previous = piece
    return "\n\n".join(blocks)


def _measure(pages: list[list[_Piece]], lines: list[_Piece]) -> _Type:
    letters: Counter[float] = Counter()
    for line in lines:
        letters[line.size] += len(line.text)
    size = letters.most_common(1)[0][0]
    body = [[piece for piece in page if piece.size == size] for page in pages]
    gaps = [second.top - first.bottom for page in body for first, second in pairwise(page)]
    larger = sorted({line.size for line in lines if line.size >= size * HEADING_GROWTH}, reverse=True)
    return _Type(size, median_low(gaps) if gaps else size / 2, max(line.right for line in lines), tuple(larger))


def _without_furniture(pages: list[list[_Piece]], kind: _Type) -> Iterator[_Piece]:
    """Yield the pieces in reading order, without the lines that head or foot half of all pages."""
    edges = Counter(
        shape
        for number, page in enumerate(pages)
        for shape in {shape for piece in page[:2] + page[-2:] for shape in _shapes(piece.text, number)}
    )
    often = max(3, len(pages) / 2)
    for number, page in enumerate(pages):
        for place, piece in enumerate(page):
            edge = place < 2 or place >= len(page) - 2
            text = piece.table or kind.level(piece) > 0
            if text or not edge or all(edges[shape] < often for shape in _shapes(piece.text, number)):
                yield piece


def _shapes(line: str, page: int) -> set[str]:
    """Return the line, and the line with each of its numbers taken for the one that counts the pages."""
    numbers = re.finditer(r"\d{1,6}", line)
    return {line, *(f"{line[: n.start()]}#{int(n[0]) - page}{line[n.end() :]}" for n in numbers)}


def _continues(previous: _Piece, piece: _Piece, kind: _Type) -> bool:
    """Whether the piece goes on with the paragraph, or the heading, of the one before it."""
    if previous.table or piece.table or kind.level(previous) != kind.level(piece) or BULLET.match(piece.text):
        return False
    if piece.top < previous.top:  # the next page
        return piece.text[:1].islower() and not kind.level(piece)
    if kind.level(piece):
        return piece.top - previous.bottom < piece.size / 2
    ended = previous.text.endswith(SENTENCE_END) and previous.right < 0.75 * kind.right
    return not ended and piece.top - previous.bottom <= 1.4 * max(kind.gap, kind.size / 8)


def _opening(piece: _Piece, kind: _Type) -> str:
    if piece.table:
        return piece.text
    if level := kind.level(piece):
        return f"{'#' * level} {piece.text}"
    return BULLET.sub("- ", piece.text, count=1) if BULLET.match(piece.text) else piece.text


class _Words:
    """The words of a document, which tell a hyphen that a line's end put into a word from one of the word's own."""

    def __init__(self, lines: list[str]) -> None:
        # A word that may be cut by a line's end says nothing of how it is written.
        self._known = {word for line in lines for word in re.findall(r"\w+(?:-\w+)*(?!-?\w|-$)", line.lower())}
        breaks = (_broken_word(first, second) for first, second in pairwise(lines))
        self._hyphenated = any(found and "".join(found) in self._known for found in breaks)

    def join(self, before: str, after: str) -> str:
        """Join two lines; a hyphen between them goes unless it is the word's own."""
        found = _broken_word(before, after)
        if found is None:
            return f"{before} {after}"
        soft = "".join(found) in self._known or (self._hyphenated and "-".join(found) not in self._known)
        return (before[:-1] if soft else before) + after


def _broken_word(before: str, after: str) -> tuple[str, str] | None:
    """Return the two parts of a word that goes on in the next line, or None."""
    first, second = re.search(r"([^\W\d]+)-$", before), re.match(r"[^\W\d]+", after)
    return (first[1].lower(), second[0]) if first and second and second[0].islower() else None
