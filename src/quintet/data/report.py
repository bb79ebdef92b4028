"""What a check of data says: plain values, for the terminal, for machines and for tests."""

from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = 20
"""Places that are kept of each kind of finding; the rest is counted."""


@dataclass
class Finding:
    """One kind of thing that was found: how often, and where first."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: object, note: str = "") -> None:
        """Count it, and keep its place while there are few."""
        self.count += 1
        if len(self.places) < SHOWN:
            self.places.append(f"{place}: {note}" if note else str(place))


@dataclass
class Lengths:
    """Tokens of the rows: percentiles, and a histogram of equal bins from 0 to the longest."""

    total: int
    trained: int
    percentiles: dict[str, int]
    bins: list[int]


@dataclass
class FileReport:
    """What one data set holds; `rows` is accepted plus refused."""

    path: str
    accepted: int = 0
    refused: Finding = field(default_factory=Finding)
    shapes: dict[str, int] = field(default_factory=dict)
    unused_columns: dict[str, int] = field(default_factory=dict)
    groups: int = 0
    lengths: Lengths | None = None
    context: int = 0
    too_long: Finding = field(default_factory=Finding)
    too_long_policy: str = "refuse"
    duplicates: Finding = field(default_factory=Finding)
    near_duplicates: Finding | None = None
    contradictions: Finding = field(default_factory=Finding)
    personal: dict[str, Finding] = field(default_factory=dict)
    encoding: Finding = field(default_factory=Finding)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows that the files hold."""
        return self.accepted + self.refused.count


@dataclass
class Report:
    """What there is to say about a department's data; `no_split` is why nothing of it can be held out."""

    department: str
    data: FileReport
    eval_data: FileReport | None = None
    leaks: Finding = field(default_factory=Finding)
    near_leaks: Finding | None = None
    no_split: str | None = None

    @property
    def errors(self) -> int:
        """How many things stop a training: refused rows, leaked questions, and that nothing can be held out."""
        return sum(part.refused.count for part in self.parts) + self.leaks.count + (self.no_split is not None)

    @property
    def warnings(self) -> int:
        """How many things do not stop it, but should be looked at."""
        found = [f for part in self.parts for f in (part.duplicates, part.near_duplicates, part.contradictions,
                 part.encoding, *part.personal.values())]  # fmt: skip
        return sum(f.count for f in (*found, self.near_leaks) if f is not None)

    @property
    def parts(self) -> list[FileReport]:
        """The data sets: what is trained, and what is held out when that has files of its own."""
        return [self.data] if self.eval_data is None else [self.data, self.eval_data]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**asdict(self), "errors": self.errors, "warnings": self.warnings}
