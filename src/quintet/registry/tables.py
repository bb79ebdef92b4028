"""The tables of the registry. Knows nothing of files, nor of how a row comes about."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """A moment; SQLite keeps no time zone, so that all are written and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Table(DeclarativeBase):
    """Base of the tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        dict[str, str]: JSON,
        list[str]: JSON,
        list[list[int]]: JSON,
        list[list[float]]: JSON,
        list[dict[str, str]]: JSON,
    }


class ExpertRow(Table):
    """One version of one department; `deleted_at` makes it a tombstone.

    `contents` are the folder's files with their SHA-256, `artifact` is the digest of those, `settings` what the run was
    made with.
    """

    __tablename__ = "experts"
    __table_args__ = (UniqueConstraint("department", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    department: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64), index=True)
    method: Mapped[str]
    trained: Mapped[str]
    objective: Mapped[str]
    base_model: Mapped[str]
    base_digest: Mapped[str]
    data_digest: Mapped[str]
    template_digest: Mapped[str | None] = mapped_column(String(64))
    fingerprint: Mapped[str]
    parent: Mapped[str | None]
    files: Mapped[list[str]]
    contents: Mapped[dict[str, str]]
    artifact: Mapped[str] = mapped_column(String(64))
    seconds: Mapped[float] = mapped_column(Double)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    examples: Mapped[int]
    settings: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class EvidenceRow(Table):
    """What was measured of an expert, last of all, and what the gate said; `content` is that of an `Evidence`."""

    __tablename__ = "evidence"

    expert_id: Mapped[int] = mapped_column(ForeignKey("experts.id"), primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    digest: Mapped[str] = mapped_column(String(64))
    content: Mapped[dict[str, Any]]


class LossesRow(Table):
    """The losses of an expert's training, as [step, loss]: on its own rows, and on those held out."""

    __tablename__ = "losses"

    expert_id: Mapped[int] = mapped_column(ForeignKey("experts.id"), primary_key=True, autoincrement=False)
    training: Mapped[list[list[float]]]
    held_out: Mapped[list[list[float]]]


class ForgettingRow(Table):
    """What all experts learnt and forgot, as it was measured last; there is one row, the first."""

    __tablename__ = "forgetting"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    content: Mapped[dict[str, Any]]


class NumberRow(Table):
    """The highest version number that a department has given out, used or not."""

    __tablename__ = "numbers"

    department: Mapped[str] = mapped_column(String(64), primary_key=True)
    last: Mapped[int]


class ReleaseRow(Table):
    """Which versions answer for a department since when; the last of a department is live.

    `split` lists version and percent; `before` is the release that a rollback of this one restores.
    """

    __tablename__ = "releases"

    id: Mapped[int] = mapped_column(primary_key=True)
    department: Mapped[str] = mapped_column(String(64), index=True)
    split: Mapped[list[list[int]]]
    since: Mapped[datetime]
    by: Mapped[str]
    reason: Mapped[str | None]
    forced: Mapped[bool]
    before: Mapped[int | None] = mapped_column(ForeignKey("releases.id"))


class KeyRow(Table):
    """Who may ask what, and until when; the key itself is not kept, but the SHA-256 of it.

    `id` is the part of a key that is no secret; `departments` may be `*`, for all there are or will be.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None]
    departments: Mapped[list[str]]
    roles: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class BudgetRow(Table):
    """How many of a unit a key may use in a period; `used` are of the one that began at `started`, a Unix time."""

    __tablename__ = "budgets"

    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"), primary_key=True)
    unit: Mapped[str] = mapped_column(String(16), primary_key=True)
    period: Mapped[str] = mapped_column(String(16), primary_key=True)
    allowed: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[int] = mapped_column(BigInteger)
    started: Mapped[int] = mapped_column(BigInteger)


class ConversationRow(Table):
    """A conversation that the holder of a key had on the page, as the page wrote it; `at` is when it last changed."""

    __tablename__ = "conversations"

    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    title: Mapped[str] = mapped_column(Text)
    content: Mapped[dict[str, Any]]


class AuditRow(Table):
    """One act on a department, a version of one, a key, or the whole; rows are added and never changed.

    The database itself sees to that.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    act: Mapped[str] = mapped_column(String(32))
    department: Mapped[str | None] = mapped_column(String(64), index=True)
    version: Mapped[int | None]
    key_id: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None]
    details: Mapped[dict[str, Any]]


class RequestRow(Table):
    """What was asked and answered, of a department that keeps it; a client may bring the same id again."""

    __tablename__ = "requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    request_id: Mapped[str] = mapped_column(String(128), index=True)
    department: Mapped[str] = mapped_column(String(64))
    version: Mapped[int | None]
    digest: Mapped[str | None] = mapped_column(String(64))
    prompt: Mapped[list[dict[str, str]]]
    answer: Mapped[str] = mapped_column(Text)


class FeedbackRow(Table):
    """What somebody thinks of an answer; the two texts are there only where the department keeps requests."""

    __tablename__ = "feedback"
    __table_args__ = (UniqueConstraint("department", "request_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    request_id: Mapped[str] = mapped_column(String(128))
    department: Mapped[str] = mapped_column(String(64))
    version: Mapped[int | None]
    digest: Mapped[str | None] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(16))
    good: Mapped[bool]
    better_answer: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
