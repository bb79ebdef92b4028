"""Bodies of responses about experts: versions, evaluations, releases."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from quintet.server.schemas.bodies import Body, ReleaseShare, Text

Points = list[tuple[int, float]]


class ReleaseEntry(BaseModel):
    """What answered for a department from `since` on; who released it, and why, is for administrators."""

    split: list[ReleaseShare]
    since: datetime
    by: str | None
    reason: str | None
    forced: bool


class ExpertEntry(BaseModel):
    """A version: what made it, how many of a hundred conversations it answers, and what it is worth.

    `gate` is null where it was not measured; `base` and `score` are the base's and its own, by the gate's metric.
    """

    expert: str
    version: int
    method: str
    parent: str | None
    rows: int
    seconds: float
    created_at: datetime | None
    share: int
    gate: bool | None
    metric: str | None
    base: float | None
    score: float | None


class DepartmentExperts(BaseModel):
    """A department, its versions, the newest first, and its releases, the live one first."""

    department: str
    description: str
    experts: list[ExpertEntry]
    releases: list[ReleaseEntry]


class ExpertsAnswer(BaseModel):
    """The departments that have experts, or are to have them."""

    departments: list[DepartmentExperts]


class IntervalEntry(BaseModel):
    """A mean difference, and the 95% interval around it; null where it is no number."""

    mean: float | None
    low: float | None
    high: float | None


class OutcomesEntry(BaseModel):
    """On how many questions the expert was better, the same, and worse."""

    wins: int
    ties: int
    losses: int


class DifferenceEntry(BaseModel):
    """The expert against one other, by metric."""

    intervals: dict[str, IntervalEntry]
    outcomes: OutcomesEntry


class VerdictEntry(BaseModel):
    """What one rule of the gate says."""

    rule: str
    passed: bool
    said: str


class EvidenceEntry(BaseModel):
    """What was measured of an expert, when, beside whom, and what the gate said."""

    at: datetime
    questions: int
    metric: str
    names: dict[str, str]
    scores: dict[str, dict[str, float | None]]
    differences: dict[str, DifferenceEntry]
    verdicts: list[VerdictEntry]
    passed: bool


class CurveEntry(BaseModel):
    """The losses that its run logged, as (step, loss); empty on a machine that it was not trained on."""

    training: Points
    held_out: Points


class FeedbackCount(BaseModel):
    """How many found its answers good, and how many not."""

    up: int
    down: int


class ExpertAnswer(ExpertEntry):
    """All that is known of a version.

    `decides_nothing` says why a release cannot go by the evidence as things stand now, or is null when one can.
    """

    department: str
    base_model: str
    digest: str
    rows_held_out: int | None
    settings: dict[str, Any]
    evidence: EvidenceEntry | None
    decides_nothing: str | None
    curve: CurveEntry
    feedback: FeedbackCount


class ForgettingAnswer(BaseModel):
    """The perplexity of each set's references under the base and each expert; all empty where none was measured."""

    at: datetime | None = None
    experts: list[str] = []
    sets: list[str] = []
    base: list[float | None] = []
    perplexity: list[list[float | None]] = []


class WantedRelease(Body):
    """Which version is to answer, for how many of a hundred conversations; what the gate blocks wants `force`."""

    department: str
    version: int = Field(ge=1, lt=10**9)
    share: int = Field(default=100, ge=1, le=100)
    reason: Text | None = Field(default=None, pattern=r"\S", max_length=500)
    force: bool = False

    @field_validator("force")
    @classmethod
    def _says_why(cls, force: bool, info: ValidationInfo) -> bool:
        if force and not info.data.get("reason"):
            raise ValueError("expected a reason beside it, for the history")
        return force


class WantedRollback(Body):
    """Which department is to be answered for as it was before."""

    department: str
    reason: Text | None = Field(default=None, pattern=r"\S", max_length=500)
