"""What people think of answers, by the version that gave them; and, where a department says so, the answers themselves.

What is kept is kept as long as `keep_requests` says now: when that is shortened or taken away, so is what was kept.
Without it there are only counts. Knows nothing of who asked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, false, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from quintet.config import Project
from quintet.messages import Message
from quintet.registry.database import counting, reading, writing
from quintet.registry.tables import FeedbackRow, RequestRow

_REQUESTS = RequestRow.metadata.tables[RequestRow.__tablename__]


@dataclass(frozen=True)
class Answered:
    """Which version answered a request; the bare base has none."""

    request_id: str
    department: str
    version: int | None
    digest: str | None

    @property
    def model(self) -> str:
        """The version as in `hr@1`."""
        return self.department if self.version is None else f"{self.department}@{self.version}"


@dataclass(frozen=True)
class Opinion:
    """What somebody thinks of an answer: whether it is good, what would be better, and why."""

    good: bool
    better_answer: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Rated:
    """An answer that was kept, and what was thought of it."""

    answered: Answered
    prompt: tuple[Message, ...]
    answer: str
    opinion: Opinion


def keep_request(project: Project, answered: Answered, prompt: Sequence[Message], answer: str, at: datetime) -> None:
    """Keep what was asked and answered."""
    with counting(project) as connection:
        connection.execute(
            insert(_REQUESTS).values(
                request_id=answered.request_id,
                department=answered.department,
                version=answered.version,
                digest=answered.digest,
                prompt=[message.as_dict() for message in prompt],
                answer=answer,
                at=at,
            )
        )


def find_kept(project: Project, request_id: str, departments: Collection[str]) -> Answered | None:
    """Return who answered a request that is kept, of the departments named; the last one of that id."""
    now = datetime.now(UTC)
    still = [_is_kept(project, name, now) for name in departments if _keeps(project, name)]
    if not still:
        return None
    query = select(RequestRow).where(RequestRow.request_id == request_id, or_(*still)).order_by(RequestRow.id.desc())
    with reading(project) as session:
        row = session.scalars(query.limit(1)).first()
        return None if row is None else _answered(row)


def give_feedback(project: Project, answered: Answered, opinion: Opinion, key_id: str | None = None) -> bool:
    """Write down what is thought of an answer, in place of what was before; return whether its texts are kept."""
    keeps = _keeps(project, answered.department)
    of_it = (FeedbackRow.department == answered.department, FeedbackRow.request_id == answered.request_id)
    with writing(project) as session:
        session.execute(delete(FeedbackRow).where(*of_it))
        session.add(
            FeedbackRow(
                at=datetime.now(UTC),
                request_id=answered.request_id,
                department=answered.department,
                version=answered.version,
                digest=answered.digest,
                key_id=key_id,
                good=opinion.good,
                better_answer=opinion.better_answer if keeps else None,
                comment=opinion.comment if keeps else None,
            )
        )
    return keeps


def rated(project: Project, department: str) -> list[Rated]:
    """Return the answers of a department that are kept and of which something was thought, in the order of that."""
    if not _keeps(project, department):
        return []
    newest = (
        select(func.max(RequestRow.id))
        .where(_is_kept(project, department, datetime.now(UTC)))
        .group_by(RequestRow.request_id)
    )
    query = (
        select(FeedbackRow, RequestRow)
        .join(
            RequestRow,
            (RequestRow.request_id == FeedbackRow.request_id) & (RequestRow.department == FeedbackRow.department),
        )
        .where(RequestRow.id.in_(newest), RequestRow.digest == FeedbackRow.digest)
        .order_by(FeedbackRow.id)
    )
    with reading(project) as session:
        return [_rated(feedback, request) for feedback, request in session.execute(query)]


def count_feedback(project: Project, department: str) -> dict[str, tuple[int, int]]:
    """Return how many found the answers of each version good, and how many not."""
    query = (
        select(FeedbackRow.version, FeedbackRow.good, func.count())
        .where(FeedbackRow.department == department)
        .group_by(FeedbackRow.version, FeedbackRow.good)
        .order_by(FeedbackRow.version)
    )
    counts: dict[str, tuple[int, int]] = {}
    with reading(project) as session:
        for version, good, number in session.execute(query):
            name = Answered("", department, version, None).model
            up, down = counts.get(name, (0, 0))
            counts[name] = (up + number, down) if good else (up, down + number)
    return counts


def forget_old(project: Project, now: datetime) -> int:
    """Delete what may not be kept any longer, and of feedback all but the counts; return how many requests it were."""
    kept = [name for name in project.config.departments if _keeps(project, name)]
    fresh = {table: [_is_fresh(table, project, name, now) for name in kept] for table in (RequestRow, FeedbackRow)}
    old_requests = ~or_(false(), *fresh[RequestRow])
    wordy = or_(FeedbackRow.better_answer.is_not(None), FeedbackRow.comment.is_not(None))
    old_feedback = wordy & ~or_(false(), *fresh[FeedbackRow])
    with reading(project) as session:  # mostly there is nothing, and no writer needs to wait for that
        old = (select(RequestRow.id).where(old_requests), select(FeedbackRow.id).where(old_feedback))
        if not session.scalar(select(or_(*(one.exists() for one in old)))):
            return 0
    with writing(project) as session:
        gone = session.scalars(delete(RequestRow).where(old_requests).returning(RequestRow.id)).all()
        session.execute(update(FeedbackRow).where(old_feedback).values(better_answer=None, comment=None))
        return len(gone)


def _keeps(project: Project, department: str) -> bool:
    section = project.config.departments.get(department)
    return section is not None and section.keeps_for is not None


def _is_kept(project: Project, department: str, now: datetime) -> ColumnElement[bool]:
    return _is_fresh(RequestRow, project, department, now)


def _is_fresh(
    table: type[RequestRow] | type[FeedbackRow], project: Project, department: str, now: datetime
) -> ColumnElement[bool]:
    lasting = project.config.departments[department].keeps_for
    assert lasting is not None  # noqa: S101  asked of departments that keep something
    return (table.department == department) & (table.at > now - lasting)


def _answered(row: RequestRow | FeedbackRow) -> Answered:
    return Answered(row.request_id, row.department, row.version, row.digest)


def _rated(feedback: FeedbackRow, request: RequestRow) -> Rated:
    prompt = tuple(Message(turn["role"], turn["content"]) for turn in request.prompt)
    opinion = Opinion(feedback.good, feedback.better_answer, feedback.comment)
    return Rated(_answered(request), prompt, request.answer, opinion)
