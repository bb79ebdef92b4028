"""Which examples are trained on and which are held out."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quintet.config import Project
from quintet.data.examples import Example
from quintet.data.formats import data_files
from quintet.data.loading import load_examples
from quintet.data.near_duplicates import NearDuplicates
from quintet.errors import DataError
from quintet.messages import Message


@dataclass(frozen=True)
class Split:
    """The two halves of a department's data."""

    train: list[Example]
    held_out: list[Example]

    @property
    def notes(self) -> list[str]:
        """What a reader of the data should know, in words."""
        repeats = len(self.train) - len({example.messages for example in self.train})
        return [f"{repeats} rows repeat another; they are trained as often as they stand"] if repeats else []


def load_split(project: Project, department: str) -> Split:
    """Load a department's rows and return them split.

    With `eval_data` the two files are the split; a held-out question that is also trained on is refused, since it
    would be measured as if it were new. Without, whole groups are held out by a seeded hash until
    `eval_fraction` of the rows are.
    """
    settings = project.department(department)
    data = project.data(department)
    examples = load_examples(data, settings.format)
    if settings.eval_data is not None:
        split = Split(examples, load_examples(project.path(settings.eval_data), settings.format))
        refuse_leaks(split)
        return split
    split = split_by_group(examples, settings.eval_fraction, project.training(department).seed)
    if not split.train or not split.held_out:
        raise DataError([no_split(data, len(examples), len(set(_joined_groups(examples))), settings.eval_fraction)])
    return split


def no_split(data: Path, rows: int, groups: int, fraction: float) -> str:
    """Say that nothing can be held out, and what to do about it."""
    return (
        f"{data}: {rows} rows in {groups} groups cannot be split to hold out {fraction:.0%}; add rows, give rows a "
        "'group' where one answer belongs to many questions, or name a held-out file under 'eval_data:'"
    )


def class_of(example: Example) -> str:
    """Return the class that a row is held out with: its first label, if it has any."""
    return example.labels[0][1] if example.labels else ""


def can_be_split(classes: Iterable[Counter[int]], fraction: float) -> bool:
    """Return whether any group may be held out, given the sizes of the groups of each class of rows."""
    sizes = list(classes)
    return sum(map(len, sizes)) > 1 and any(min(size.values()) <= _wanted(size.total(), fraction) for size in sizes)


def data_digest(project: Project, department: str, *, with_preferences: bool = False) -> str:
    """Return the digest of what decides which rows are trained: the files, how they are read, and how split."""
    settings = project.department(department)
    split = None if settings.eval_data else (settings.eval_fraction, project.training(department).seed)
    total = hashlib.sha256(repr((settings.format, settings.too_long, split)).encode())
    pairs = [project.path(settings.preferences)] if with_preferences and settings.preferences else []
    for file in (file for path in [project.data(department), *pairs] for file in data_files(path)):
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def split_by_group(examples: Sequence[Example], fraction: float, seed: int) -> Split:
    """Hold out whole groups, in the order of a seeded hash, up to `fraction` of the rows and at least one.

    Rows that ask the same or nearly the same thing are one group. A group larger than what is still wanted is passed
    over: it would take a whole answer away from training. Label rows are held out class by class, in the same share.
    """
    groups = _joined_groups(examples)
    strata: dict[str, list[str]] = defaultdict(list)
    for group, example in dict(zip(groups, examples, strict=True)).items():
        strata[class_of(example)].append(group)
    sizes, held = Counter(groups), set[str]()
    for members in strata.values():
        held |= _chosen(members, sizes, fraction, seed)
    return Split(
        [e for e, group in zip(examples, groups, strict=True) if group not in held],
        [e for e, group in zip(examples, groups, strict=True) if group in held],
    )


def _chosen(groups: Iterable[str], sizes: Counter[str], fraction: float, seed: int) -> set[str]:
    ordered = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    left, held = _wanted(sum(sizes[group] for group in ordered), fraction), set[str]()
    for group in ordered:
        if sizes[group] <= left:
            held.add(group)
            left -= sizes[group]
    return held


def _wanted(rows: int, fraction: float) -> int:
    """Return how many rows of a class are held out; one that is alone is better trained on than measured with."""
    return max(1 if rows > 1 else 0, round(fraction * rows))


def _joined_groups(examples: Sequence[Example]) -> list[str]:
    """Return the group of each row, after joining groups that hold the same or nearly the same prompt."""
    parents: dict[str, str] = {}

    def root(group: str) -> str:
        while (parent := parents.setdefault(group, group)) != group:
            parents[group] = group = parents[parent]
        return group

    asked: dict[str, str] = {}
    near = NearDuplicates()
    for example in examples:
        prompt = normal(example.prompt)
        if prompt not in asked:
            similar = near.add(example.group, prompt)
            asked[prompt] = example.group if similar is None else str(similar)
        parents[root(example.group)] = root(asked[prompt])
    return [root(example.group) for example in examples]


def refuse_leaks(split: Split) -> None:
    """Raise DataError naming each held-out question that is also trained on, and where."""
    trained = {normal(e.prompt): e.place for e in split.train}
    leaks = [(e.place, trained[normal(e.prompt)]) for e in split.held_out if normal(e.prompt) in trained]
    if leaks:
        raise DataError(
            [
                f"{place}: this held-out question is also trained on, at {other}; remove it from one of the two"
                for place, other in leaks
            ]
        )


def normal(messages: Sequence[Message]) -> str:
    """Return what is said, without the differences that do not make another question: case and white space."""
    return "\n".join(" ".join(m.content.lower().split()) for m in messages)
