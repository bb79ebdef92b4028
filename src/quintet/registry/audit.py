"""Who did what, and when. Knows nothing of why it was allowed."""

import getpass
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from quintet.config import Project
from quintet.registry.database import reading
from quintet.registry.tables import AuditRow


@dataclass(frozen=True)
class Act:
    """One thing that was done; `department`, `version` and `key_id` are None where it was not about one."""

    at: datetime
    who: str
    act: str
    department: str | None
    version: int | None
    key_id: str | None
    reason: str | None
    details: dict[str, Any]


def current_user() -> str:
    """Return the operating system's name of the user, and of the machine, as in `ada@lab3`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def write_act(
    session: Session,
    act: str,
    department: str | None = None,
    version: int | None = None,
    *,
    key_id: str | None = None,
    by: str | None = None,
    reason: str | None = None,
    **details: Any,
) -> AuditRow:
    """Add an act to the session's changes, and return it: it becomes true with them, or not at all."""
    row = AuditRow(
        at=datetime.now(UTC),
        who=by or current_user(),
        act=act,
        department=department,
        version=version,
        key_id=key_id,
        reason=reason,
        details=details,
    )
    session.add(row)
    return row


def read_acts(project: Project, department: str, version: int | None = None) -> list[Act]:
    """Return what was done to a department, or to one version of it, oldest first."""
    wanted = AuditRow.department == department
    return _read(project, wanted if version is None else and_(wanted, AuditRow.version == version))


def read_key_acts(project: Project, key_id: str | None = None) -> list[Act]:
    """Return what was done to a key, or to all keys, oldest first."""
    return _read(project, AuditRow.key_id.is_not(None) if key_id is None else AuditRow.key_id == key_id)


def search_acts(
    project: Project,
    *,
    act: str | None = None,
    department: str | None = None,
    key_id: str | None = None,
    who: str | None = None,
    since: datetime | None = None,
    newest: int | None = None,
) -> list[Act]:
    """Return the acts to which all that is given applies, oldest first; of more than `newest`, those."""
    exactly = {AuditRow.act: act, AuditRow.department: department, AuditRow.key_id: key_id, AuditRow.who: who}
    wanted = [column == value for column, value in exactly.items() if value is not None]
    return _read(project, *wanted, *([] if since is None else [AuditRow.at >= since]), newest=newest)


def _read(project: Project, *wanted: ColumnElement[bool], newest: int | None = None) -> list[Act]:
    query = select(AuditRow).where(*wanted).order_by(AuditRow.id.desc()).limit(newest)
    with reading(project) as session:
        return [
            Act(row.at, row.who, row.act, row.department, row.version, row.key_id, row.reason, row.details)
            for row in reversed(session.scalars(query).all())
        ]
