"""What a row becomes: messages with the answer to learn, and where it came from. Plain values, no files."""

from dataclasses import dataclass
from pathlib import Path

from quintet.messages import Message


@dataclass(frozen=True, order=True)
class Place:
    """Where a row stands: the line of a text file, the item of a JSON list, the row of a table."""

    file: Path
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        """Return `file:12`, which editors open, or `file: item 12` where there are no lines."""
        return f"{self.file}:{self.number}" if self.unit == "line" else f"{self.file}: {self.unit} {self.number}"


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the answer to learn.

    Rows of one `group` are never split apart. `rejected` is the worse answer of a preference row; `labels` are the
    columns and values of a label row, which its answer spells out.
    """

    messages: tuple[Message, ...]
    group: str
    place: Place
    rejected: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the answer."""
        return self.messages[:-1]

    @property
    def rejected_messages(self) -> tuple[Message, ...]:
        """The conversation of a preference row that ends with the worse answer."""
        return (*self.prompt, Message("assistant", self.rejected or ""))

    @property
    def question(self) -> str:
        """The last thing the user said."""
        return self.messages[-2].content

    @property
    def answer(self) -> str:
        """What the assistant must say."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Refusal:
    """A row that cannot be used, and why: field, what was found, the fix."""

    place: Place
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"
