"""HTML → Markdown. Knows tables, headings and lists; drops what a reader of the page does not read."""

import warnings
from typing import Any

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
from bs4.element import Tag
from markdownify import ATX, MarkdownConverter

from quintet.data.documents.tables import markdown_table

UNREAD = ("script", "style", "noscript", "template", "head", "nav", "svg", "img")
BLOCKS = ("p", "div", "br", "li", "tr")
EMPHASIS = ":is(h1, h2, h3, h4, h5, h6) :is(b, strong, em, i)"  # a heading needs none
MOST_SPANNED = 100


def html_to_markdown(html: str) -> str:
    """Return the page's text as Markdown; scripts, styles, pictures and menus (`nav`) are left out."""
    with warnings.catch_warnings():
        # XHTML is read as HTML on purpose: pages claim to be XML that are not.
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        # lxml knows the end tags that HTML allows to leave out; the standard library's parser does not.
        page = BeautifulSoup(html, "lxml")
    for element in page(UNREAD):
        element.decompose()
    for emphasis in page.select(EMPHASIS):
        emphasis.unwrap()
    for table in page("table"):
        cells = _own(table, "td", "th")
        if len(cells) == 1:
            cells[0].name = "div"
            table.replace_with(cells[0])
    converter = _Converter(
        heading_style=ATX, bullets="-", strip=["a"], escape_asterisks=False, escape_underscores=False
    )  # fmt: skip
    return converter.convert_soup(page)


class _Converter(MarkdownConverter):
    def convert_table(self, el: Tag, text: str, parent_tags: Any) -> str:
        caption = el.find("caption")
        above = _text(caption) + "\n\n" if isinstance(caption, Tag) else ""
        return f"\n\n{above}{markdown_table(_grid(el))}\n\n"


def _grid(table: Tag) -> list[list[str]]:
    """Return the texts of the table's cells; a cell that spans several places is repeated in each of them."""
    grid: dict[tuple[int, int], str] = {}
    rows = _own(table, "tr")
    for y, row in enumerate(rows):
        x = 0
        for cell in row.find_all(["td", "th"], recursive=False):
            while (y, x) in grid:
                x += 1
            text, width = _text(cell), _span(cell, "colspan")
            for down in range(min(_span(cell, "rowspan"), len(rows) - y)):
                grid.update({(y + down, x + right): text for right in range(width)})
            x += width
    columns = 1 + max((x for _, x in grid), default=-1)
    return [[grid.get((y, x), "") for x in range(columns)] for y in range(len(rows))]


def _own(table: Tag, *names: str) -> list[Tag]:
    """Return the table's own parts, not those of a table inside one of its cells."""
    return [found for found in table.find_all(names) if found.find_parent("table") is table]


def _text(element: Tag) -> str:
    for block in element(BLOCKS):
        block.insert_after(" ")
    return " ".join(element.get_text().split())


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name, "1"))
    return max(1, min(int(value), MOST_SPANNED)) if value.isdecimal() else 1
