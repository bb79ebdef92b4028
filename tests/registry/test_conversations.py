"""Conversations are kept by key, as long as the config says, and up to a bound."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from quintet.config import Project
from quintet.errors import NoConversationError, RequestError
from quintet.registry import conversations
from quintet.registry.conversations import (
    delete_conversation,
    delete_conversations,
    find_conversation,
    forget_conversations,
    keep_conversation,
    list_conversations,
)
from quintet.registry.database import reading, writing
from quintet.registry.keys import create_key, revoke_key
from quintet.registry.tables import ConversationRow


def keeping(project: Project, how_long: str | None = "30d") -> Project:
    serving = project.config.serving.model_copy(update={"keep_conversations": how_long})
    return Project(project.root, project.config.model_copy(update={"serving": serving}))


@pytest.fixture
def kept(project: Project) -> Project:
    return keeping(project)


@pytest.fixture
def key(kept: Project) -> str:
    return create_key(kept, departments=["hr"])[0].id


def content(question: str = "When is pay day?", answer: str = "On the 27th.") -> dict[str, Any]:
    return {"created": 1, "turns": [{"question": question, "files": [], "answers": [{"text": answer, "model": "hr"}]}]}


def how_many(project: Project) -> int:
    with reading(project) as session:
        return int(session.execute(text("SELECT count(*) FROM conversations")).scalar_one())


def make_older(project: Project, days: float) -> None:
    with writing(project) as session:
        for row in session.query(ConversationRow):
            row.at = datetime.now(UTC) - timedelta(days=days)


def test_a_conversation_is_kept_and_kept_again(kept: Project, key: str) -> None:
    keep_conversation(kept, key, "c1", "Pay", content())
    strange = content(answer="A zero \0, a smile \N{SLIGHTLY SMILING FACE}.")
    keep_conversation(kept, key, "c1", "Pay day", strange)
    found = find_conversation(kept, key, "c1")
    assert (found.title, found.content) == ("Pay day", strange)
    assert how_many(kept) == 1


def test_the_last_one_changed_comes_first(kept: Project, key: str) -> None:
    for name in ("c1", "c2", "c1"):
        keep_conversation(kept, key, name, name, content())
    assert [one.id for one in list_conversations(kept, key)] == ["c1", "c2"]


def test_words_are_found_in_titles_questions_and_answers_alone(kept: Project, key: str) -> None:
    keep_conversation(kept, key, "c1", "Of Zebras", content())
    keep_conversation(kept, key, "c2", "Two", content("Where are zebras?"))
    keep_conversation(kept, key, "c3", "Three", content(answer="ZEBRAS \u00fcberall"))
    keep_conversation(kept, key, "c4", "Four", content())
    assert [one.id for one in list_conversations(kept, key, " zebras ")] == ["c3", "c2", "c1"]
    assert [one.id for one in list_conversations(kept, key, "\u00dcBER")] == ["c3"]
    assert list_conversations(kept, key, "model") == []


def test_another_key_has_others(kept: Project, key: str) -> None:
    other = create_key(kept, departments=["hr"])[0].id
    keep_conversation(kept, key, "c1", "Mine", content())
    for act in (find_conversation, delete_conversation):
        with pytest.raises(NoConversationError):
            act(kept, other, "c1")
    keep_conversation(kept, other, "c1", "Theirs", content())
    delete_conversations(kept, other)
    assert [one.title for one in list_conversations(kept, key)] == ["Mine"]
    assert list_conversations(kept, other) == []


def test_what_is_too_long_or_one_too_many_is_refused(kept: Project, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MOST", 1)
    with pytest.raises(RequestError, match=r"has 1,000,\d\d\d bytes, where 1,000,000 are the most"):
        keep_conversation(kept, key, "c1", "Long", content(answer="x" * 1_000_000))
    keep_conversation(kept, key, "c1", "One", content())
    with pytest.raises(RequestError, match="delete some"):
        keep_conversation(kept, key, "c2", "Two", content())
    keep_conversation(kept, key, "c1", "One again", content())


@pytest.mark.parametrize("answer", ["\ud800", float("nan")], ids=["half a letter", "no number"])
def test_what_cannot_be_read_again_is_refused(kept: Project, key: str, answer: Any) -> None:
    with pytest.raises(RequestError, match="Unicode"):
        keep_conversation(kept, key, "c1", "Strange", content(answer=answer))


def test_what_is_old_is_neither_shown_nor_kept(kept: Project, key: str) -> None:
    keep_conversation(kept, key, "c1", "Old", content())
    assert forget_conversations(kept, datetime.now(UTC)) == 0
    make_older(kept, days=31)
    assert list_conversations(kept, key) == []
    with pytest.raises(NoConversationError):
        find_conversation(kept, key, "c1")
    assert forget_conversations(kept, datetime.now(UTC)) == 1
    assert how_many(kept) == 0


def test_when_none_are_kept_any_more_those_that_were_go(kept: Project, key: str) -> None:
    keep_conversation(kept, key, "c1", "Before", content())
    assert forget_conversations(keeping(kept, None), datetime.now(UTC)) == 1


def test_a_keys_conversations_go_with_it(kept: Project, key: str) -> None:
    other = create_key(kept, departments=["hr"])[0].id
    keep_conversation(kept, key, "c1", "Mine", content())
    keep_conversation(kept, other, "c1", "Theirs", content())
    revoke_key(kept, key)
    assert how_many(kept) == 1
