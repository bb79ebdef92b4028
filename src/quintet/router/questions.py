"""What the router learns from: the departments' own questions, and some that are nobody's. Fits nothing.

Departments are trained to hand on what is not theirs: "Leave is looked after by HR". The question of such a row says
nothing for its department, and rather something against it. A row whose answer names another department of the
project is therefore neither learnt from nor measured with.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from quintet.config import Project
from quintet.data.examples import Example
from quintet.data.splits import load_split

NOBODYS_FILE = Path(__file__).parent / "nobody.txt"
MOST_HANDED_ON = 0.5
"""A department that would lose more of its rows than this keeps all: its answers name others for another reason."""


@dataclass(frozen=True)
class LabelledQuestion:
    """A question, and the department that it is for; None is nobody."""

    text: str
    department: str | None


def _nobodys(start: int) -> list[LabelledQuestion]:
    lines = NOBODYS_FILE.read_text("utf-8").splitlines()
    return [LabelledQuestion(line, None) for line in lines[start::2]]


@dataclass
class Questions:
    """What is learnt from and what is not, nobody's among both, and how many rows were left out as handed on."""

    train: list[LabelledQuestion] = field(default_factory=lambda: _nobodys(0))
    held_out: list[LabelledQuestion] = field(default_factory=lambda: _nobodys(1))
    handed_on: int = 0

    def add(self, project: Project, department: str) -> None:
        """Add a department's rows, split as its experts have them; raise DataError when they cannot be used."""
        split = load_split(project, department)
        others = [name for name in project.config.departments if name != department]
        for examples, questions in ((split.train, self.train), (split.held_out, self.held_out)):
            own = _own(examples, others)
            self.handed_on += len(examples) - len(own)
            questions += [LabelledQuestion(asked(example), department) for example in own]


def asked(example: Example) -> str:
    """Return what a conversation begins with: the question that names its subject."""
    return next((turn.content for turn in example.messages if turn.role == "user"), example.question)


def _own(examples: list[Example], others: Collection[str]) -> list[Example]:
    """Return the rows that are not handed on to another department."""
    if not others:
        return examples
    named = re.compile(rf"\b(?:{'|'.join(_written(name) for name in others)})\b")
    own = [example for example in examples if not named.search(example.answer)]
    return own if len(own) >= MOST_HANDED_ON * len(examples) else examples


def _written(name: str) -> str:
    """Return the pattern of a department's name as a sentence has it: HR and not "hr", Sales and not "sales"."""
    words = [re.escape(word) for word in re.split("[-_]", name) if word]
    capital, shouted = [word[:1].upper() + word[1:] for word in words], [word.upper() for word in words]
    # "It" begins many a sentence; IT is a department.
    if len(name) <= 2:
        return "[-_ ]".join(shouted)
    first, rest = capital[0], [f"(?:{one}|{other})" for one, other in zip(capital[1:], words[1:], strict=True)]
    return f"(?:{'[-_ ]'.join([first, *rest])}|{'[-_ ]'.join(shouted)})"
