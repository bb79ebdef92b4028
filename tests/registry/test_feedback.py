"""What is thought of answers is kept by version; what was asked and said, only where and while the config says so."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from quintet.config import Project
from quintet.messages import Message
from quintet.registry.database import reading
from quintet.registry.feedback import (
    Answered,
    Opinion,
    count_feedback,
    find_kept,
    forget_old,
    give_feedback,
    keep_request,
    rated,
)

ANSWERED = Answered("r1", "hr", 3, "d" * 64)
PROMPT = [Message("user", "When is pay day?")]
BETTER = Opinion(False, "On the 27th.", "It named the wrong day.")


def keeping(project: Project, time: str | None = "30d", department: str = "hr") -> Project:
    sections = dict(project.config.departments)
    sections[department] = sections[department].model_copy(update={"keep_requests": time})
    return Project(project.root, project.config.model_copy(update={"departments": sections}))


def keep(project: Project, answered: Answered = ANSWERED, days_ago: float = 0) -> None:
    keep_request(project, answered, PROMPT, "On the 1st.", datetime.now(UTC) - timedelta(days=days_ago))


def texts(project: Project) -> list[str]:
    """Return all that anybody wrote and the registry still has."""
    with reading(project) as session:
        kept = session.execute(text("SELECT prompt, answer FROM requests")).all()
        given = session.execute(text("SELECT better_answer, comment FROM feedback")).all()
    return [str(value) for row in (*kept, *given) for value in row if value is not None]


def test_without_keep_requests_there_are_only_counts(project: Project) -> None:
    assert not give_feedback(project, ANSWERED, BETTER)
    assert not give_feedback(project, replace(ANSWERED, request_id="r2"), Opinion(True))
    assert not give_feedback(project, Answered("r3", "hr", 4, "e" * 64), Opinion(True))
    assert count_feedback(project, "hr") == {"hr@3": (1, 1), "hr@4": (1, 0)}
    assert count_feedback(project, "finance") == {}
    assert texts(project) == []


def test_the_last_opinion_on_an_answer_is_the_one_that_counts(project: Project) -> None:
    give_feedback(project, ANSWERED, Opinion(False))
    give_feedback(project, ANSWERED, Opinion(True))
    assert count_feedback(project, "hr") == {"hr@3": (1, 0)}


def test_what_is_kept_is_found_with_what_was_thought_of_it(project: Project) -> None:
    kept = keeping(project)
    keep(kept)
    assert give_feedback(kept, ANSWERED, BETTER, "4f7k2m9x1c3d")
    (found,) = rated(kept, "hr")
    assert (found.answered, found.prompt, found.answer, found.opinion) == (
        ANSWERED,
        tuple(PROMPT),
        "On the 1st.",
        BETTER,
    )


def test_an_answer_of_another_version_under_the_same_id_is_not_taken_for_it(project: Project) -> None:
    kept = keeping(project)
    give_feedback(kept, ANSWERED, BETTER)
    keep(kept, Answered("r1", "hr", 4, "e" * 64))
    assert rated(kept, "hr") == []


def test_a_kept_request_is_found_by_those_alone_who_may_ask_its_department(project: Project) -> None:
    kept = keeping(project)
    keep(kept)
    assert find_kept(kept, "r1", ["hr", "finance"]) == ANSWERED
    assert find_kept(kept, "r1", ["finance"]) is None
    assert find_kept(kept, "r2", ["hr"]) is None


def test_what_is_too_old_is_deleted_and_the_counts_stay(project: Project) -> None:
    kept = keeping(project)
    keep(kept, days_ago=31)
    keep(kept, replace(ANSWERED, request_id="r2"))
    give_feedback(kept, ANSWERED, BETTER)
    assert find_kept(kept, "r1", ["hr"]) is None
    assert forget_old(kept, datetime.now(UTC)) == 1
    assert find_kept(kept, "r2", ["hr"]) is not None
    assert forget_old(kept, datetime.now(UTC) + timedelta(days=31)) == 1
    assert texts(project) == []
    assert count_feedback(kept, "hr") == {"hr@3": (0, 1)}


@pytest.mark.parametrize("time", ["12h", None])
def test_a_shorter_time_holds_for_what_was_kept_before(project: Project, time: str | None) -> None:
    keep(keeping(project), days_ago=1)
    assert find_kept(keeping(project, time), "r1", ["hr"]) is None
    forget_old(keeping(project, time), datetime.now(UTC))
    assert texts(project) == []


def test_what_a_department_keeps_another_need_not(project: Project) -> None:
    both = keeping(keeping(project), "1h", "finance")
    keep(both, days_ago=1)
    keep(both, Answered("r2", "finance", 1, "f" * 64), days_ago=1)
    assert forget_old(both, datetime.now(UTC)) == 1
    assert find_kept(both, "r1", ["hr", "finance"]) == ANSWERED
