"""The fenced blocks of the documentation, and what stands in the comment above each.

A comment above a block says why it is treated otherwise, visibly in the source:

    <!-- not run: REASON -->                  commands of other programs, or such as take minutes; quintet's are parsed
    <!-- json of another program: WHICH -->   it is JSON and no more
    <!-- yaml of another program: WHICH -->   it is YAML and no more

A page with <!-- run this page --> is followed from top to bottom in an empty folder: blocks with a title are written to
the file of that name, and commands are run, but in blocks that are not to be.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"(?:^[ ]*<!--[ ](?P<comment>[^\n]*?)[ ]-->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)(?:[ ]title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_FOLLOWED = "<!-- run this page -->"


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language, and the comment above it (empty without one)."""

    page: str
    line: int
    language: str
    title: str | None
    comment: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not self.comment.startswith("not run: ")

    @property
    def is_of_another_program(self) -> bool:
        return " of another program: " in self.comment


def pages() -> list[Path]:
    """Return every page that people read, but the two that tell of the past."""
    written = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in written if page.name != "log.md"]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        line = text[: found.start("language")].count("\n") + 1
        inner = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(str(page.relative_to(ROOT)), line, found["language"], found["title"], found["comment"] or "", inner)


def is_followed(page: Path) -> bool:
    """Whether a page is to be followed from top to bottom."""
    return _FOLLOWED in page.read_text("utf-8")


def commands_of(block: Block) -> list[list[str]]:
    """Return the commands of a block as words: of a transcript, the lines after a `$`; with those within `$(...)`."""
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
        return [words for line in lines for words in _split(line)]
    return [words for line in _logical_lines(block.text) for words in _split(line)]


def _logical_lines(text: str) -> Iterator[str]:
    """Yield what a shell reads as one line: over backslashes and open quotations, without here-documents."""
    open_line, ends = "", ""
    for line in text.replace("\\\n", " ").splitlines():
        if ends:
            ends = "" if line.strip() == ends else ends
            continue
        open_line += line
        try:
            shlex.split(open_line, comments=True)
        except ValueError:
            open_line += "\n"
            continue
        if heredoc := re.search(r"<<'?(\w+)'?", open_line):
            ends = heredoc[1]
        yield open_line
        open_line = ""
    assert not open_line, f"an open quotation: {open_line}"


def _split(line: str) -> Iterator[list[str]]:
    for inner in re.findall(r"\$\(((?:[^()])*)\)", line):
        yield from _split(inner)
    lexer = shlex.shlex(re.sub(r"\$\(((?:[^()])*)\)", "VALUE", line), posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            if words := [*_without_assignments(words)]:
                yield words
            words = []
        else:
            words.append(word)


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"^(?:export|[A-Za-z_]\w*=.*)$", words[0]):
        words = words[1:]
    return words
