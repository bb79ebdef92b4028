"""Keys: who may ask which departments, until when, and how much. Knows nothing of how a key is sent.

A key is `qk_<id>_<secret>`. The id is public and finds the row; the secret has 256 random bits, so that one SHA-256
keeps it as safe as a slow hash keeps a password. The key itself is returned once, and kept nowhere.
"""

import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from sqlalchemy import Executable, bindparam, exists, select
from sqlalchemy.orm import Session

from quintet.config import Project
from quintet.errors import ConfigError, RegistryError
from quintet.registry.audit import write_act
from quintet.registry.budgets import Budget, BudgetUsage, usage_now
from quintet.registry.conversations import delete_all_of
from quintet.registry.database import reading, writing
from quintet.registry.tables import BudgetRow, KeyRow

Role = Literal["ask", "admin"]
ROLES: tuple[Role, ...] = ("ask", "admin")
EVERYTHING = "*"
"""Stands for every department there is or will be, and the bare base."""
_LETTERS = string.ascii_lowercase + string.digits
_SECRET_LETTERS = string.ascii_letters + string.digits
_FORMAT = re.compile(r"qk_([a-z0-9]{12})_[A-Za-z0-9]{43}")  # 62 ** 43 > 2 ** 256
_NOBODY = "0" * 64

# Made once: each request waits for them.
_ALL = (
    select(KeyRow, BudgetRow)
    .outerjoin(BudgetRow, BudgetRow.key_id == KeyRow.id)
    .order_by(KeyRow.created_at, KeyRow.id, BudgetRow.unit, BudgetRow.period)
)
_ONE = _ALL.where(KeyRow.id == bindparam("key"))


@dataclass(frozen=True)
class Key:
    """What is known of a key, which is all but the key itself; `budgets` are as they stand now."""

    id: str
    name: str | None
    departments: tuple[str, ...]
    roles: tuple[Role, ...]
    budgets: tuple[BudgetUsage, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def status(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Return whether it opens anything."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


def create_key(
    project: Project,
    *,
    departments: Collection[str] = (),
    roles: Collection[Role] = ROLES[:1],
    budgets: Sequence[Budget] = (),
    expires_at: datetime | None = None,
    name: str | None = None,
    by: str | None = None,
) -> tuple[Key, str]:
    """Make a key that may ask the departments, `base`, or EVERYTHING; return what is known of it, and the key itself.

    Raises ConfigError for a department that there is not, no department where one is needed, two budgets of one kind,
    or a time that has passed.
    """
    now = datetime.now(UTC)
    chosen = _check_departments(project, departments, roles)
    _check_budgets(budgets)
    if expires_at is not None and expires_at <= now:
        raise ConfigError(f"expires: expected a time to come, found {expires_at:%Y-%m-%d %H:%M} UTC")
    key_id = _random(_LETTERS, 12)
    secret = f"qk_{key_id}_{_random(_SECRET_LETTERS, 43)}"
    row = KeyRow(
        id=key_id,
        sha256=_digest(secret),
        name=name,
        departments=chosen,
        roles=[role for role in ROLES if role in roles],
        created_at=now,
        expires_at=expires_at,
    )
    with writing(project) as session:
        session.add(row)
        session.flush()
        ordered = sorted(budgets, key=lambda budget: (budget.unit, budget.period))
        limits = [BudgetRow(key_id=key_id, **vars(budget), used=0, started=0) for budget in ordered]
        session.add_all(limits)
        write_act(
            session,
            "create key",
            key_id=key_id,
            by=by,
            name=name,
            departments=row.departments,
            roles=row.roles,
            budgets=[str(budget) for budget in ordered],
            expires_at=expires_at.isoformat() if expires_at else None,
        )
        return _key_of(row, limits), secret


def list_keys(project: Project) -> list[Key]:
    """Return all keys that there ever were, oldest first."""
    with reading(project) as session:
        return [_key_of(*row) for row in _rows(session, _ALL)]


def revoke_key(project: Project, key_id: str, *, reason: str | None = None, by: str | None = None) -> Key:
    """Have a key open nothing any more, from the next request on; one that was revoked stays as it is.

    Its conversations go with it: nobody could read them any more.

    Raises RegistryError when there is none of that id, without showing what was given: it may be a whole key.
    """
    with writing(project) as session:
        row = session.get(KeyRow, key_id)
        if row is None:
            raise RegistryError(
                "there is no key of that id; expected the part between the first and the second '_' of a key, "
                "such as 4f7k2m9x1c3d: quintet keys list shows them"
            )
        if row.revoked_at is None:
            row.revoked_at = datetime.now(UTC)
            delete_all_of(session, key_id)
            write_act(session, "revoke key", key_id=key_id, by=by, reason=reason, name=row.name)
            session.flush()
        return _key_of(*_rows(session, _ONE, key_id)[0])


def check_key(project: Project, presented: str) -> Key | None:
    """Return the key that was presented, or None when it opens nothing; no reason takes longer than another."""
    found = _FORMAT.fullmatch(presented)
    if found is None:
        return None
    with reading(project) as session:
        rows = _rows(session, _ONE, found[1])
        known = rows[0][0].sha256 if rows else _NOBODY
        keys = [_key_of(*row) for row in rows]
    same = hmac.compare_digest(_digest(presented), known)
    return keys[0] if same and keys and keys[0].status(datetime.now(UTC)) == "valid" else None


def any_keys(project: Project) -> bool:
    """Return whether there ever was a key: when the last is revoked or expires, nothing is open to everyone again."""
    with reading(project) as session:
        return bool(session.scalar(select(exists().where(KeyRow.id.is_not(None)))))


def _check_departments(project: Project, departments: Collection[str], roles: Collection[Role]) -> list[str]:
    unknown = [name for name in departments if name not in (*project.models, EVERYTHING)]
    if unknown:
        raise ConfigError(f"a key cannot open {unknown[0]!r}; there are: {', '.join(project.models)}")
    if not departments and "ask" in roles:
        raise ConfigError(f"name what the key opens, of: {', '.join(project.models)}; or --all-departments")
    return list(dict.fromkeys(departments))


def _check_budgets(budgets: Sequence[Budget]) -> None:
    kinds = [f"{budget.unit}/{budget.period}" for budget in budgets]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ConfigError(f"budget: expected one of {kind}, found {kinds.count(kind)}")


def _rows(session: Session, query: Executable, key_id: str | None = None) -> list[tuple[KeyRow, list[BudgetRow]]]:
    found: dict[str, tuple[KeyRow, list[BudgetRow]]] = {}
    for key, budget in session.execute(query, {"key": key_id}):
        found.setdefault(key.id, (key, []))[1].extend([budget] if budget else [])
    return list(found.values())


def _key_of(row: KeyRow, budgets: Iterable[BudgetRow]) -> Key:
    now = time.time()
    return Key(
        id=row.id,
        name=row.name,
        departments=tuple(row.departments),
        roles=tuple(cast("list[Role]", row.roles)),
        budgets=tuple(
            usage_now(now, budget.unit, budget.period, budget.allowed, budget.used, budget.started)
            for budget in budgets
        ),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _random(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))
