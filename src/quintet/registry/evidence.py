"""What was measured of experts and what the gate said, as plain values that any machine of the registry can show.

Measures and judges nothing: the stages that do leave it here, and a server that has none of their libraries acts on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from quintet.config import Project
from quintet.errors import UnknownModelError
from quintet.registry.database import reading, writing
from quintet.registry.experts import Expert, find_row
from quintet.registry.losses import METRICS_FILE, Curve, Series, read_curve, thinned
from quintet.registry.releases import live
from quintet.registry.tables import EvidenceRow, ForgettingRow, LossesRow

LIVE = "live"
LAST = 1
"""The matrix that was measured last."""


@dataclass(frozen=True)
class Evidence:
    """An evaluation without its answers, and the gate's verdicts.

    `names` are contestant → expert's name, `scores` contestant → metric → value, `differences` other contestant → the
    expert against it; `verdicts` have rule, passed, found, limit and said; `rules` are the gate's, as they were.
    """

    questions: int
    metric: str
    names: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float | None]]
    differences: Mapping[str, Any]
    verdicts: tuple[Mapping[str, Any], ...]
    rules: Mapping[str, Any]
    digest: str
    at: datetime

    @property
    def passed(self) -> bool:
        """Whether every rule lets the expert through."""
        return all(verdict["passed"] for verdict in self.verdicts)

    @property
    def blocked_by(self) -> list[str]:
        """The rules that do not, each with what it says."""
        return [f"{one['rule']}: {one['said']}" for one in self.verdicts if not one["passed"]]


def record_evidence(project: Project, name: str, values: Mapping[str, Any]) -> None:
    """Keep the fields of an Evidence of an expert such as `hr@1`, in place of what was kept before."""
    with writing(project) as session:
        row = find_row(session, name)
        if row is None:
            raise UnknownModelError(name, project.models)
        kept = session.get(EvidenceRow, row.id)
        if kept is None:
            session.add(kept := EvidenceRow(expert_id=row.id))
        kept.at, kept.digest, kept.content = datetime.now(UTC), row.digest, _storable(values)


def read_evidence(project: Project, name: str) -> Evidence | None:
    """Return what was measured of an expert such as `hr@1`, if anything was."""
    with reading(project) as session:
        row = find_row(session, name)
        kept = None if row is None else session.get(EvidenceRow, row.id)
        if kept is None:
            return None
        content = {**kept.content, "verdicts": tuple(kept.content["verdicts"])}
        return Evidence(**content, digest=kept.digest, at=kept.at)


def why_it_decides_nothing(project: Project, name: str, evidence: Evidence | None) -> str | None:
    """Return why a release cannot go by the evidence as it stands, or None when it can.

    It must be of the gate's rules as they are now, and beside what is live now.
    """
    department = name.partition("@")[0]
    if evidence is None:
        return f"{name} was not measured yet"
    if evidence.rules != project.gate(department).model_dump(mode="json"):
        return f"the gate of {department} has other rules now than when {name} was measured"
    now = live(project, department)
    other = None if now is None else f"{department}@{now.main}"
    if other not in (None, name, evidence.names.get(LIVE)):
        return f"{name} was not measured beside {other}, which answers now"
    return None


def read_losses(project: Project, expert: Expert) -> Curve:
    """Return the losses of an expert's training, as they were registered, or as its run's folder has them here."""
    with reading(project) as session:
        row = find_row(session, expert.name)
        kept = None if row is None else session.get(LossesRow, row.id)
        if kept is not None:
            return Curve(_series(kept.training), _series(kept.held_out))
    here = read_curve(expert.folder.parent / METRICS_FILE)
    return Curve(thinned(here.training), thinned(here.held_out))


def write_forgetting(project: Project, matrix: Mapping[str, Any]) -> None:
    """Keep the matrix of what each expert forgot: `experts`, `sets`, `base` and `perplexity`."""
    with writing(project) as session:
        kept = session.get(ForgettingRow, LAST)
        if kept is None:
            session.add(kept := ForgettingRow(id=LAST))
        kept.at, kept.content = datetime.now(UTC), _storable(matrix)


def read_forgetting(project: Project) -> dict[str, Any] | None:
    """Return the matrix that was measured last, if one was, with the time `at`."""
    with reading(project) as session:
        kept = session.get(ForgettingRow, LAST)
        return None if kept is None else {**kept.content, "at": kept.at.isoformat()}


def _series(points: list[list[float]]) -> Series:
    return tuple((int(step), loss) for step, loss in points)


def _storable(value: Any) -> Any:
    """Return values as every database takes them: JSON has no infinity."""
    match value:
        case float():
            return value if isfinite(value) else None
        case Mapping():
            return {str(key): _storable(each) for key, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
    return value
