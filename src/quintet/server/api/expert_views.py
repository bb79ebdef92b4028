"""Views of experts: what the registry knows, as bodies of responses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quintet.config import Project
from quintet.registry.evidence import (
    Evidence,
    read_evidence,
    read_forgetting,
    read_losses,
    why_it_decides_nothing,
)
from quintet.registry.experts import Expert, describe_expert, list_experts, look_up
from quintet.registry.feedback import count_feedback
from quintet.registry.releases import Release, history
from quintet.server.schemas.bodies import ReleaseShare
from quintet.server.schemas.experts import (
    CurveEntry,
    DepartmentExperts,
    EvidenceEntry,
    ExpertAnswer,
    ExpertEntry,
    ExpertsAnswer,
    FeedbackCount,
    ForgettingAnswer,
    ReleaseEntry,
)

GENERAL = "general"
"""The set that is no department's."""


def all_experts(seen: Project, *, names_who: bool) -> ExpertsAnswer:
    """Return the departments with their versions and releases; `names_who` says whether also who released them."""
    return ExpertsAnswer(departments=[_department(seen, name, names_who) for name in seen.trained])


def one_expert(seen: Project, name: str) -> ExpertAnswer:
    """Return all that is known of a version such as `hr@1`; raise UnknownModelError."""
    expert = look_up(seen, name)
    evidence = read_evidence(seen, name)
    settings: dict[str, Any] = describe_expert(seen, name)["settings"]
    up, down = count_feedback(seen, expert.department).get(name, (0, 0))
    curve = read_losses(seen, expert)
    return ExpertAnswer(
        **_entry(expert, _shares(history(seen, expert.department)), evidence).model_dump(),
        department=expert.department,
        base_model=Path(expert.base_model).name if Path(expert.base_model).is_absolute() else expert.base_model,
        digest=expert.digest,
        rows_held_out=(settings.get("rows") or {}).get("held_out"),
        settings=settings.get("training") or {},
        evidence=None
        if evidence is None
        else EvidenceEntry.model_validate({**vars(evidence), "passed": evidence.passed}),
        decides_nothing=why_it_decides_nothing(seen, name, evidence),
        curve=CurveEntry(training=list(curve.training), held_out=list(curve.held_out)),
        feedback=FeedbackCount(up=up, down=down),
    )


def forgetting(seen: Project) -> ForgettingAnswer:
    """Return what each expert forgot, as far as its departments are seen."""
    found = read_forgetting(seen)
    if found is None:
        return ForgettingAnswer()
    rows = [row for row, name in enumerate(found["experts"]) if name.partition("@")[0] in seen.config.departments]
    columns = [place for place, name in enumerate(found["sets"]) if name in (*seen.config.departments, GENERAL)]
    return ForgettingAnswer(
        at=found["at"],
        experts=[found["experts"][row] for row in rows],
        sets=[found["sets"][place] for place in columns],
        base=[found["base"][place] for place in columns],
        perplexity=[[found["perplexity"][row][place] for place in columns] for row in rows],
    )


def describe_release(release: Release, *, names_who: bool) -> ReleaseEntry:
    """Return what is said of a release."""
    return ReleaseEntry(
        split=[
            ReleaseShare(version=f"{release.department}@{version}", share=share) for version, share in release.split
        ],
        since=release.since,
        by=release.by if names_who else None,
        reason=release.reason if names_who else None,
        forced=release.forced,
    )


def _department(seen: Project, name: str, names_who: bool) -> DepartmentExperts:
    releases = history(seen, name)
    shares = _shares(releases)
    experts = list_experts(seen, name)[::-1]
    return DepartmentExperts(
        department=name,
        description=seen.config.departments[name].description,
        experts=[_entry(expert, shares, read_evidence(seen, expert.name)) for expert in experts],
        releases=[describe_release(release, names_who=names_who) for release in releases],
    )


def _shares(releases: Sequence[Release]) -> dict[int, int]:
    return dict(releases[0].split) if releases else {}


def _entry(expert: Expert, shares: dict[int, int], evidence: Evidence | None) -> ExpertEntry:
    metric = evidence.metric if evidence else None
    scores = {} if evidence is None else {who: of_one.get(evidence.metric) for who, of_one in evidence.scores.items()}
    return ExpertEntry(
        expert=expert.name,
        version=expert.version,
        method=expert.method,
        parent=expert.parent,
        rows=expert.examples,
        seconds=expert.seconds,
        created_at=expert.created_at,
        share=shares.get(expert.version, 0),
        gate=evidence.passed if evidence else None,
        metric=metric,
        base=scores.get("base"),
        score=scores.get("expert"),
    )
