"""A department's file or folder → examples. Every row comes out as an example or as a refusal; none is lost."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from quintet.config import FormatConfig
from quintet.data.examples import Example, Place, Refusal
from quintet.data.formats import RawRow, data_files, read_rows
from quintet.data.shapes import RowError, Shape, candidates, find_shape, to_example, unused_columns
from quintet.errors import DataError
from quintet.messages import Message


@dataclass
class ExampleReader:
    """Streams one data set, and knows afterwards which shapes it found and which columns nothing reads."""

    path: Path
    settings: FormatConfig = field(default_factory=FormatConfig)
    shapes: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Example | Refusal]:
        """Yield every row, in order; raise DataError for a file that cannot be read at all, or holds no row."""
        self._allowed = candidates(self.settings)
        self._known: dict[frozenset[str], tuple[Shape, frozenset[str]] | RowError] = {}
        rows = 0
        for file in data_files(self.path):
            for row in read_rows(file):
                rows += 1
                yield self._read(row) if isinstance(row, RawRow) else row
        if not rows:
            raise DataError([f"{self.path}: the file has no rows; expected one for each question"])

    def _read(self, row: RawRow) -> Example | Refusal:
        try:
            shape, unused = self._shape(frozenset(row.values))
            example = to_example(row.values, row.place, shape, self.settings)
        except RowError as error:
            return Refusal(row.place, str(error))
        self.shapes[shape.name] += 1
        self.unused.update(unused)
        return example

    def _shape(self, columns: frozenset[str]) -> tuple[Shape, frozenset[str]]:
        """Return shape and unused columns of a set of columns: worked out once, since most rows have the same."""
        if columns not in self._known:
            try:
                shape = find_shape(columns, self.settings, self._allowed)
                self._known[columns] = shape, unused_columns(columns, shape, self.settings)
            except RowError as error:
                self._known[columns] = error
        found = self._known[columns]
        if isinstance(found, RowError):
            raise RowError(*found.args)
        return found


def load_examples(path: Path, settings: FormatConfig | None = None) -> list[Example]:
    """Return the examples of a file or folder, in order; raise DataError with a line for every row refused."""
    rows = list(ExampleReader(path, settings or FormatConfig()))
    if refused := [str(row) for row in rows if isinstance(row, Refusal)]:
        raise DataError(refused)
    return [row for row in rows if isinstance(row, Example)]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Keep examples as JSON lines that `read_examples` gives back as they were."""
    with path.open("w", encoding="utf-8") as stream:
        for example in examples:
            values = {
                "messages": [m.as_dict() for m in example.messages],
                "group": example.group,
                "place": [str(example.place.file), example.place.number, example.place.unit],
                "rejected": example.rejected,
                "labels": example.labels,
            }
            stream.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_examples(path: Path) -> list[Example]:
    """Return what `write_examples` kept; raise DataError when the file is not whole."""
    try:
        with path.open(encoding="utf-8") as stream:
            return [_kept(line) for line in stream]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError([f"{path} cannot be read ({error}); train again"]) from None


def _kept(line: str) -> Example:
    values = json.loads(line)
    file, number, unit = values["place"]
    return Example(
        messages=tuple(Message(**turn) for turn in values["messages"]),
        group=values["group"],
        place=Place(Path(file), number, unit),
        rejected=values["rejected"],
        labels=tuple((column, value) for column, value in values["labels"]),
    )
