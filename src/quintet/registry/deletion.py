"""Takes experts away: their files go, a tombstone stays, and their number is never given out again."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from quintet.config import Project
from quintet.errors import RegistryError, UnknownModelError
from quintet.files import write_json
from quintet.registry.audit import write_act
from quintet.registry.database import writing
from quintet.registry.experts import DELETED_FILE, adopt, check_department, find_row
from quintet.registry.releases import live_split
from quintet.registry.tables import ExpertRow


def delete_expert(project: Project, name: str, *, reason: str | None = None, by: str | None = None) -> Path:
    """Delete an expert such as `hr@1` and return its run's folder; one that was half deleted is deleted to the end.

    Its copy in the object store stays, since other registries may share that. Raises UnknownModelError, or
    RegistryError while it is released or another was trained from it.
    """
    check_department(project, name)
    department = name.partition("@")[0]
    adopt(project, department)
    with writing(project) as session:
        row = find_row(session, name)
        if row is None:
            raise UnknownModelError(name, project.models)
        if row.version in dict(live_split(session, department)):
            raise RegistryError(
                f"{name} answers for {department} now; release another version, or: quintet rollback {department}"
            )
        child = _child(session, name)
        if child is not None:
            raise RegistryError(
                f"{name} is what {child} was trained from and is measured against; delete {child} first"
            )
        if row.deleted_at is None:
            row.deleted_at = datetime.now(UTC)
            write_act(session, "delete", department, row.version, by=by, reason=reason, digest=row.digest)
        run = project.runs / department / str(row.version)
        digest, deleted_at = row.digest, row.deleted_at
    tombstone = {"expert": name, "digest": digest, "deleted_at": deleted_at.isoformat()}
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / DELETED_FILE, tombstone)
    for path in run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != DELETED_FILE:
            path.unlink()
    return run


def _child(session: Session, name: str) -> str | None:
    """Return an expert that was trained from this one, if there is one."""
    query = select(ExpertRow).where(ExpertRow.parent == name, ExpertRow.deleted_at.is_(None))
    row = session.scalar(query.limit(1))
    return None if row is None else f"{row.department}@{row.version}"
