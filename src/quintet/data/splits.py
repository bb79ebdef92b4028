"""Which examples are trained on and which are held out."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from quintet.config import Project
from quintet.data.loading import Example, load_examples
from quintet.errors import DataError


@dataclass(frozen=True)
class Split:
    """The two halves of a department's data."""

    train: list[Example]
    held_out: list[Example]


def load_split(project: Project, department: str) -> Split:
    """Load a department's rows and return them split.

    With `eval_data` the two files are the split; a held-out question that is also trained on is refused, since it
    would be measured as if it were new. Without, whole groups are held out by a seeded hash until
    `eval_fraction` of the rows are.
    """
    settings = project.department(department)
    data = project.path(settings.data)
    examples = load_examples(data)
    if settings.eval_data is not None:
        split = Split(examples, load_examples(project.path(settings.eval_data)))
        _refuse_leaks(split, data, project.path(settings.eval_data))
        return split
    split = split_by_group(examples, settings.eval_fraction, project.training(department).seed)
    if not split.train or not split.held_out:
        groups = len({example.group for example in examples})
        raise DataError(
            [
                f"{data}: {len(examples)} rows in {groups} groups cannot be split to hold out "
                f"{settings.eval_fraction:.0%}; add rows, give rows a 'group' where one answer belongs to many "
                "questions, or name a held-out file under 'eval_data:'"
            ]
        )
    _refuse_leaks(split, data, data)
    return split


def data_digest(project: Project, department: str) -> str:
    """Return the digest of what decides which rows are trained: the file, and how it is split."""
    settings = project.department(department)
    split = None if settings.eval_data else (settings.eval_fraction, project.training(department).seed)
    return hashlib.sha256(project.path(settings.data).read_bytes() + repr(split).encode()).hexdigest()


def split_by_group(examples: list[Example], fraction: float, seed: int) -> Split:
    """Hold out whole groups, in the order of a seeded hash, up to `fraction` of the rows and at least one.

    A group larger than what is still wanted is passed over: it would take a whole class away from training.
    """
    sizes = Counter(example.group for example in examples)
    left, held = max(1, round(fraction * len(examples))), set[str]()
    for group in sorted(sizes, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest()):
        if sizes[group] <= left:
            held.add(group)
            left -= sizes[group]
    return Split([e for e in examples if e.group not in held], [e for e in examples if e.group in held])


def _refuse_leaks(split: Split, data: Path, eval_data: Path) -> None:
    trained = {_normal(e): e.line for e in split.train}
    leaks = [(e.line, trained[_normal(e)]) for e in split.held_out if _normal(e) in trained]
    if leaks:
        raise DataError(
            [
                f"{eval_data}:{line}: this held-out question is also trained on, at {data}:{other}; "
                "remove it from one of the two"
                for line, other in leaks
            ]
        )


def _normal(example: Example) -> str:
    return "\n".join(" ".join(m.content.lower().split()) for m in example.prompt)
