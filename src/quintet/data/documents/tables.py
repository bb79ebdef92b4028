"""Cells → a Markdown table. The one way in which a table is written, whatever file it came from."""

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a Markdown table whose first row is the header; empty rows go, short ones are filled up."""
    cleaned = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    cleaned = [row for row in cleaned if any(row)]
    width = max(map(len, cleaned), default=0)
    lines = [_line(row + [""] * (width - len(row))) for row in cleaned]
    return "\n".join([*lines[:1], _line(["---"] * width), *lines[1:]]) if lines else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
