"""Which version answers for a department, since when, by whom and why. Knows nothing of whether it should.

Releases are added and never changed: the last one of a department is live, the others are its history.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from quintet.config import Project
from quintet.errors import ModelError, NotReleasedError, NotTrainedError, ReleaseError
from quintet.registry.artifacts import EXPERT_FILE, open_store
from quintet.registry.audit import write_act
from quintet.registry.database import reading, writing
from quintet.registry.experts import (
    Expert,
    adopt,
    check_department,
    expert_of,
    find_row,
    list_experts,
    look_up,
    upload_expert,
)
from quintet.registry.tables import ReleaseRow

Split = tuple[tuple[int, int], ...]
"""Versions with their shares, in percent, the newest of them last."""


@dataclass(frozen=True)
class Release:
    """What answers for a department from `since` on; `before` is the release that a rollback restores."""

    number: int
    department: str
    split: Split
    since: datetime
    by: str
    reason: str | None
    forced: bool
    before: int | None

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that answer."""
        return tuple(version for version, _ in self.split)

    @property
    def main(self) -> int:
        """The version with the largest share."""
        return max(self.split, key=lambda part: part[1])[0]

    def __str__(self) -> str:
        return f"{self.department}: {describe_split(self.split)}"


def describe_split(split: Split) -> str:
    """Return a split as in `90% @3, 10% @4`, or `@3` when that is all."""
    return f"@{split[0][0]}" if len(split) == 1 else ", ".join(f"{share}% @{version}" for version, share in split)


def live(project: Project, department: str) -> Release | None:
    """Return what answers for the department now, if anything is released."""
    with reading(project) as session:
        row = _live_row(session, department)
        return None if row is None else _release_of(row)


def live_split(session: Session, department: str) -> Split:
    """Return what answers for the department as the session sees it, for what must hold until its end."""
    row = _live_row(session, department)
    return () if row is None else _release_of(row).split


def history(project: Project, department: str) -> list[Release]:
    """Return the department's releases, the live one first."""
    query = select(ReleaseRow).where(ReleaseRow.department == department).order_by(ReleaseRow.id.desc())
    with reading(project) as session:
        return [_release_of(row) for row in session.scalars(query)]


def pick(release: Release, key: str) -> int:
    """Return the version that answers for a key: always the same one while the split stands, each by its share."""
    digest = hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest()
    point = int.from_bytes(digest[:8], "big") * 100 / 2**64
    for version, share in release.split:
        point -= share
        if point < 0:
            return version
    return release.split[-1][0]


def released_expert(project: Project, name: str, key: str = "") -> Expert:
    """Return the expert that answers to `hr`, by its release and the key, or to `hr@1`; its files may be elsewhere.

    Raises UnknownModelError, NotTrainedError, or NotReleasedError for a department that has only unreleased experts.
    """
    check_department(project, name)
    if "@" in name:
        return look_up(project, name)
    with reading(project) as session:
        released = _live_row(session, name)
        row = None if released is None else find_row(session, f"{name}@{pick(_release_of(released), key)}")
        if row is not None:
            return expert_of(project, row)
    raise why_not_released(project, name)


def why_not_released(project: Project, department: str) -> ModelError:
    """Return NotTrainedError or NotReleasedError: what to do for a department that has no release."""
    experts = list_experts(project, department)
    if not experts:
        return NotTrainedError(department, project.runs / department)
    return NotReleasedError(department, experts[-1].version)


def release(
    project: Project,
    department: str,
    version: int,
    *,
    reason: str | None = None,
    forced: bool = False,
    share: int = 100,
    by: str | None = None,
) -> Release:
    """Have a version answer for the department, or for `share` percent of it beside what answers now.

    What is live already, at that share, stays as it is. Raises UnknownModelError, MissingFilesError for an expert that
    cannot answer, ReleaseError for a share that leaves the rest to nobody.
    """
    if not 1 <= share <= 100:
        raise ReleaseError(f"share: expected a percentage from 1 to 100, found {share}")
    adopt(project, department)
    expert = look_up(project, f"{department}@{version}")
    if open_store(project) is None:
        expert.check_files()
    elif (expert.folder / EXPERT_FILE).is_file():
        expert.check_files()
        upload_expert(project, expert)
    with writing(project) as session:
        _refuse_deleted(session, department, [version])
        before = _live_row(session, department)
        if share == 100:
            split: tuple[tuple[int, int], ...] = ((version, 100),)
        else:
            others = {} if before is None else {other: part for other, part in before.split if other != version}
            if not others:
                raise ReleaseError(
                    f"{department}@{version} cannot have {share}%: nothing else is live to answer the rest; "
                    f"release it as a whole: quintet release {department} {version}"
                )
            split = (*_scale(others, 100 - share), (version, share))
        if before is not None and _release_of(before).split == split:
            return _release_of(before)
        row = _new_row(department, split, before.id if before else None, forced)
        return _write(session, row, "release", version, reason, by)


def rollback(project: Project, department: str, *, reason: str | None = None, by: str | None = None) -> Release:
    """Take the live release back; a second rollback goes one further back.

    Raises NotReleasedError, or ReleaseError when there was no release before or its expert is gone.
    """
    check_department(project, department)
    if live(project, department) is None:
        raise why_not_released(project, department)
    with writing(project) as session:
        current = _live_row(session, department)
        before = session.get(ReleaseRow, current.before) if current and current.before else None
        if before is None:
            raise ReleaseError(
                f"there is no release before the live one of {department!r}; "
                f"name a version instead: quintet release {department} VERSION"
            )
        target = _release_of(before)
        _refuse_deleted(session, department, target.versions)
        row = _new_row(department, target.split, target.before, target.forced)
        return _write(session, row, "rollback", target.main, reason, by)


def _live_row(session: Session, department: str) -> ReleaseRow | None:
    query = select(ReleaseRow).where(ReleaseRow.department == department)
    return session.scalar(query.order_by(ReleaseRow.id.desc()).limit(1))


def _release_of(row: ReleaseRow) -> Release:
    split = tuple((version, share) for version, share in row.split)
    return Release(row.id, row.department, split, row.since, row.by, row.reason, row.forced, row.before)


def _refuse_deleted(session: Session, department: str, versions: Sequence[int]) -> None:
    for version in versions:
        row = find_row(session, f"{department}@{version}")
        if row is None or row.deleted_at is not None:
            raise ReleaseError(
                f"{department}@{version} was deleted and cannot answer; name another version: "
                f"quintet release {department} VERSION"
            )


def _scale(parts: Mapping[int, int], total: int) -> list[tuple[int, int]]:
    """Scale whole numbers so that they add up to `total`: the largest remainders are rounded up."""
    whole = sum(parts.values())
    scaled = {version: part * total // whole for version, part in parts.items()}
    by_remainder = sorted(parts, key=lambda version: parts[version] * total % whole, reverse=True)
    for version in by_remainder[: total - sum(scaled.values())]:
        scaled[version] += 1
    return [(version, part) for version, part in scaled.items() if part]


def _new_row(department: str, split: Split, before: int | None, forced: bool) -> ReleaseRow:
    return ReleaseRow(department=department, split=[list(part) for part in split], before=before, forced=forced)


def _write(session: Session, row: ReleaseRow, act: str, version: int, reason: str | None, by: str | None) -> Release:
    """Make the release live, and write down who did so."""
    done = write_act(session, act, row.department, version, by=by, reason=reason, split=row.split, forced=row.forced)
    row.since, row.by, row.reason = datetime.now(UTC), done.who, reason
    session.add(row)
    session.flush()
    return _release_of(row)
