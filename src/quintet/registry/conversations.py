"""The conversations that people have on the page, each key's apart: no other key reads them here, and no administrator.

They are kept as long as `serving.keep_conversations` says now: when that is shortened or taken away, so is what was
kept. Knows nothing of what a conversation is made of but its title, its questions and the texts of its answers.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from quintet.config import Project
from quintet.errors import NoConversationError, RequestError
from quintet.registry.database import reading, writing
from quintet.registry.tables import ConversationRow

MOST = 500
"""Conversations of a key."""
MOST_BYTES = 1_000_000
"""Of a conversation, as JSON."""


@dataclass(frozen=True)
class Summary:
    """Which conversation it is, and when it last changed."""

    id: str
    title: str
    at: datetime


@dataclass(frozen=True)
class Conversation(Summary):
    """All of it; `content` is what the page wrote, of which `turns` have a `question` and `answers` with a `text`."""

    content: Mapping[str, Any]


def keep_conversation(project: Project, key_id: str, conversation_id: str, title: str, content: dict[str, Any]) -> None:
    """Keep a conversation, in place of the one of that id; raise RequestError when it is too long, or one too many."""
    try:
        size = len(json.dumps([title, content], ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError):
        raise RequestError(
            "the conversation cannot be kept: expected text in Unicode, finite numbers and little nesting"
        ) from None
    if size > MOST_BYTES:
        raise RequestError(
            f"the conversation has {size:,} bytes, where {MOST_BYTES:,} are the most that is kept; begin a new one",
            code="conversation_too_long",
        )
    now = datetime.now(UTC)
    with writing(project) as session:
        row = session.get(ConversationRow, (key_id, conversation_id))
        if row is None:
            count = session.scalar(select(func.count()).where(_is_kept(project, key_id)))
            if count is not None and count >= MOST:
                raise RequestError(
                    f"{MOST} conversations of this key are kept, which is the most; delete some that are not needed",
                    code="too_many_conversations",
                )
            session.add(row := ConversationRow(key_id=key_id, id=conversation_id))
        row.at, row.title, row.content = now, title, content


def list_conversations(project: Project, key_id: str, words: str = "") -> list[Summary]:
    """Return a key's conversations, the newest first; of those with `words` in them, when there are any."""
    wanted, mine, newest = words.strip().casefold(), _is_kept(project, key_id), ConversationRow.at.desc()
    with reading(project) as session:
        if not wanted:
            short = select(ConversationRow.id, ConversationRow.title, ConversationRow.at).where(mine).order_by(newest)
            return [Summary(name, title, at) for name, title, at in session.execute(short)]
        whole = select(ConversationRow).where(mine).order_by(newest)
        # One after the other: all of them together may be more than there is memory for.
        found = (
            row
            for row in session.scalars(whole.execution_options(yield_per=10))
            if any(wanted in text.casefold() for text in (row.title, *_texts(row.content)))
        )
        return [Summary(row.id, row.title, row.at) for row in found]


def find_conversation(project: Project, key_id: str, conversation_id: str) -> Conversation:
    """Return a conversation of a key; raise NoConversationError."""
    with reading(project) as session:
        query = select(ConversationRow).where(_is_kept(project, key_id), ConversationRow.id == conversation_id)
        row = session.scalars(query).first()
        if row is None:
            raise NoConversationError(conversation_id)
        return Conversation(row.id, row.title, row.at, row.content)


def delete_conversation(project: Project, key_id: str, conversation_id: str) -> None:
    """Delete a conversation of a key; raise NoConversationError."""
    with writing(project) as session:
        row = session.get(ConversationRow, (key_id, conversation_id))
        if row is None:
            raise NoConversationError(conversation_id)
        session.delete(row)


def delete_conversations(project: Project, key_id: str) -> None:
    """Delete all conversations of a key."""
    with writing(project) as session:
        delete_all_of(session, key_id)


def delete_all_of(session: Session, key_id: str) -> None:
    """Delete all conversations of a key, together with what else the session does."""
    session.execute(delete(ConversationRow).where(ConversationRow.key_id == key_id))


def forget_conversations(project: Project, now: datetime) -> int:
    """Delete what may not be kept any longer; return how many conversations it were."""
    lasting = project.config.serving.keeps_conversations_for
    old = ConversationRow.at <= (now if lasting is None else now - lasting)
    with reading(project) as session:  # mostly there is nothing, and no writer needs to wait for that
        if not session.scalar(select(select(ConversationRow.id).where(old).exists())):
            return 0
    with writing(project) as session:
        return len(session.scalars(delete(ConversationRow).where(old).returning(ConversationRow.id)).all())


def _is_kept(project: Project, key_id: str) -> ColumnElement[bool]:
    lasting = project.config.serving.keeps_conversations_for
    if lasting is None:
        return ConversationRow.id.in_(())
    return (ConversationRow.key_id == key_id) & (ConversationRow.at > datetime.now(UTC) - lasting)


def _texts(content: Mapping[str, Any]) -> Iterator[str]:
    for turn in content["turns"]:
        yield turn["question"]
        yield from (answer["text"] for answer in turn["answers"])
