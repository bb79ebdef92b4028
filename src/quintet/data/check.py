"""Goes through a department's data once and reports: refusals, warnings and figures, before anything is trained.

Rows are streamed: of each, a few numbers are kept, so that a file larger than the memory can be checked.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from quintet.chat import ChatTranslator
from quintet.config import DepartmentConfig, Project
from quintet.data.encoding_trouble import find_encoding_trouble
from quintet.data.examples import Example, Place, Refusal
from quintet.data.fitting import Fitted, Fitter, Size
from quintet.data.loading import ExampleReader
from quintet.data.near_duplicates import NearDuplicates
from quintet.data.personal import find_personal
from quintet.data.report import FileReport, Finding, Lengths, Report
from quintet.data.splits import can_be_split, class_of, no_split, normal

BATCH = 512
BINS = 16
Progress = Callable[[int], None]
"""Called with the number of rows of the data set read so far."""


def check_department(
    project: Project,
    department: str,
    translator: ChatTranslator,
    context: int,
    *,
    near: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Read a department's files from end to end and report; raise DataError for a file that cannot be read at all."""
    settings = project.department(department)
    fitter = Fitter(translator, context, settings.too_long)
    trained = _Checker(settings, fitter, near, progress)
    report = Report(department, trained.run(project.data(department)))
    if settings.eval_data is not None:
        held_out = _Checker(settings, fitter, near, progress, trained)
        report.eval_data = held_out.run(project.path(settings.eval_data))
        report.leaks, report.near_leaks = held_out.leaks, held_out.near_leaks
    elif report.data.accepted and not can_be_split(trained.groups.values(), settings.eval_fraction):
        data = report.data
        report.no_split = no_split(project.data(department), data.accepted, data.groups, settings.eval_fraction)
    return report


class _Checker:
    """Goes through one data set; with `trained`, the set that its questions may not come from."""

    def __init__(
        self,
        settings: DepartmentConfig,
        fitter: Fitter,
        near: bool,
        progress: Progress | None,
        trained: "_Checker | None" = None,
    ) -> None:
        self._settings = settings
        self._fitter = fitter
        self._progress = progress
        self._trained = trained
        self._seen = _Seen()
        self._near = NearDuplicates() if near else None
        self._tokens, self._trained_tokens = array("I"), array("I")
        self.groups: dict[str, Counter[int]] = {}
        self._labels: dict[str, Counter[str]] = {}
        self.leaks = Finding()
        self.near_leaks = Finding() if near and trained is not None else None

    def run(self, path: Path) -> FileReport:
        """Read it all and return what was found."""
        report = FileReport(str(path), context=self._fitter.context, too_long_policy=self._settings.too_long)
        report.near_duplicates = None if self._near is None else Finding()
        reader = ExampleReader(path, self._settings.format)
        for batch in _batches(reader, BATCH):
            for refusal in (row for row in batch if isinstance(row, Refusal)):
                report.refused.add(refusal.place, refusal.reason)
            examples = [row for row in batch if isinstance(row, Example)]
            for example, size in zip(examples, self._fitter.measure(examples), strict=True):
                if isinstance(size, Refusal):
                    report.refused.add(size.place, size.reason)
                elif size.tokens <= self._fitter.context or not self._refuses(example, size, report):
                    report.accepted += 1
                    self._tokens.append(size.tokens)
                    self._trained_tokens.append(size.trained)
                    self._note(example, report)
            if self._progress is not None:
                self._progress(report.rows)
        report.shapes, report.unused_columns = dict(reader.shapes), dict(reader.unused)
        report.groups = len(set().union(*self.groups.values()))
        report.labels = {column: dict(counts.most_common()) for column, counts in self._labels.items()}
        report.lengths = _lengths(self._tokens, self._trained_tokens)
        self._seen.report(report)
        return report

    def _refuses(self, example: Example, size: Size, report: FileReport) -> bool:
        """Report a row over the context, and say whether the department's policy refuses it."""
        fitted = Fitted()
        self._fitter.fit(example, size, fitted)
        report.too_long.add(example.place, f"{size.tokens} tokens")
        for refusal in fitted.refused:
            report.refused.add(refusal.place, refusal.reason)
        return bool(fitted.refused)

    def _note(self, example: Example, report: FileReport) -> None:
        prompt = normal(example.prompt)
        if self._trained is not None:
            if self._trained._seen.holds(prompt):
                self.leaks.add(
                    example.place, "this held-out question is also trained on; remove it from one of the two"
                )
            elif self._trained._near is not None and self.near_leaks is not None:
                similar = self._trained._near.find(prompt)
                if similar is not None:
                    self.near_leaks.add(example.place, f"almost the trained question of {similar}")
        if self._near is not None and report.near_duplicates is not None and not self._seen.holds(prompt):
            earlier = self._near.add(example.place, prompt)
            if earlier is not None:
                report.near_duplicates.add(example.place, f"almost the question of {earlier}")
        self._seen.add(prompt, example)
        self.groups.setdefault(class_of(example), Counter())[_digest(example.group)] += 1
        for column, value in example.labels:
            self._labels.setdefault(column, Counter())[value] += 1
        for text in _texts(example):
            for found in find_personal(text):
                report.personal.setdefault(found.kind, Finding()).add(example.place, found.excerpt)
            for trouble in find_encoding_trouble(text):
                report.encoding.add(example.place, trouble)


class _Seen:
    """Remembers each accepted row by four numbers: digests of what is asked, of the answer, of all; and its place."""

    def __init__(self) -> None:
        self._prompts: set[int] = set()
        self._asked, self._answered, self._all = array("Q"), array("Q"), array("Q")
        self._numbers, self._files = array("I"), array("I")
        self._names: dict[tuple[Path, str], int] = {}

    def holds(self, prompt: str) -> bool:
        """Whether a row with this prompt, as `normal` gives it, was seen."""
        return _digest(prompt) in self._prompts

    def add(self, prompt: str, example: Example) -> None:
        """Remember a row."""
        asked = _digest(prompt)
        self._prompts.add(asked)
        self._asked.append(asked)
        self._answered.append(_digest(" ".join(example.answer.lower().split())))
        self._all.append(_digest("\n".join(_texts(example))))
        self._numbers.append(example.place.number)
        key = example.place.file, example.place.unit
        self._files.append(self._names.setdefault(key, len(self._names)))

    def report(self, report: FileReport) -> None:
        """Report rows that repeat another, and questions that have two answers."""
        firsts: dict[int, int] = {}
        answers: dict[int, int] = {}
        for row, (asked, answered, whole) in enumerate(zip(self._asked, self._answered, self._all, strict=True)):
            first = firsts.setdefault(whole, row)
            if first != row:
                report.duplicates.add(self._place(row), f"the row repeats {self._place(first)}")
            other = answers.setdefault(asked, row)
            if answered != self._answered[other]:
                report.contradictions.add(self._place(row), f"the question of {self._place(other)}, another answer")

    def _place(self, row: int) -> Place:
        file, unit = list(self._names)[self._files[row]]
        return Place(file, self._numbers[row], unit)


def _texts(example: Example) -> list[str]:
    rejected = [] if example.rejected is None else [example.rejected]
    return [*(message.content for message in example.messages), *rejected]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _lengths(tokens: "array[int]", trained: "array[int]") -> Lengths | None:
    if not tokens:
        return None
    counts = np.frombuffer(tokens, np.uint32)
    bins, _ = np.histogram(counts, BINS, (0, int(counts.max())))
    percentiles = {f"p{q}": int(np.percentile(counts, q)) for q in (50, 90, 99)} | {"max": int(counts.max())}
    return Lengths(int(counts.sum()), int(np.sum(np.frombuffer(trained, np.uint32))), percentiles, bins.tolist())


def _batches(rows: Iterable[Example | Refusal], size: int) -> Iterator[list[Example | Refusal]]:
    stream = iter(rows)
    while batch := list(islice(stream, size)):
        yield batch
