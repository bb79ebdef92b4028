"""Routes of conversations, where the server keeps them. Each caller sees their own alone.

A conversation belongs to the key that it was had with. What is looked for comes in a body: addresses are logged.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.status import HTTP_204_NO_CONTENT

from quintet.errors import RequestError
from quintet.registry.conversations import (
    Summary,
    delete_conversation,
    delete_conversations,
    find_conversation,
    keep_conversation,
    list_conversations,
)
from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, Called, require_ask
from quintet.server.schemas.bodies import NO_CONVERSATION, REFUSED
from quintet.server.schemas.conversations import (
    ConversationAnswer,
    ConversationBody,
    ConversationsAnswer,
    ConversationSummary,
    Id,
    WantedConversations,
)

router = APIRouter(
    prefix="/api/conversations",
    tags=["conversations"],
    dependencies=[*NEEDS_KEY, Depends(require_ask)],
    responses={**REFUSED, **NO_CONVERSATION},
)


async def _key(ctx: Context, caller: Called) -> str:
    """Return whose conversations it is about; raise RequestError where none are kept."""
    if ctx.project.config.serving.keep_conversations is None:
        raise RequestError(
            "this server keeps no conversations; serving.keep_conversations in quintet.yaml says for how long it does",
            code="conversations_not_kept",
        )
    if caller.key_id is None:
        raise RequestError(
            "conversations are kept by key, and this request came without one; quintet keys create makes one",
            code="conversations_not_kept",
        )
    return caller.key_id


Owner = Annotated[str, Depends(_key)]


@router.get("", summary="The conversations of the key, the newest first")
async def conversations(ctx: Context, owner: Owner) -> ConversationsAnswer:
    """List them, without what was said."""
    return _listed(await asyncio.to_thread(list_conversations, ctx.project, owner))


@router.post("/search", summary="Search the conversations of the key")
async def search(body: WantedConversations, ctx: Context, owner: Owner) -> ConversationsAnswer:
    """Look through titles, questions and answers."""
    return _listed(await asyncio.to_thread(list_conversations, ctx.project, owner, body.words))


@router.get("/{conversation}", summary="One conversation")
async def conversation(conversation: Id, ctx: Context, owner: Owner) -> ConversationAnswer:
    """Return all of it."""
    found = await asyncio.to_thread(find_conversation, ctx.project, owner, conversation)
    return ConversationAnswer.model_validate({**found.content, **_summary(found)})


@router.put("/{conversation}", summary="Keep a conversation", status_code=HTTP_204_NO_CONTENT)
async def keep(conversation: Id, body: ConversationBody, ctx: Context, owner: Owner) -> None:
    """Keep it, in place of what was kept of it before."""
    content = body.model_dump(exclude={"title"})
    await asyncio.to_thread(keep_conversation, ctx.project, owner, conversation, body.title, content)


@router.delete("/{conversation}", summary="Delete a conversation", status_code=HTTP_204_NO_CONTENT)
async def remove(conversation: Id, ctx: Context, owner: Owner) -> None:
    """Delete it; it cannot be had back."""
    await asyncio.to_thread(delete_conversation, ctx.project, owner, conversation)


@router.delete("", summary="Delete all conversations of the key", status_code=HTTP_204_NO_CONTENT)
async def remove_all(ctx: Context, owner: Owner) -> None:
    """Delete them; they cannot be had back."""
    await asyncio.to_thread(delete_conversations, ctx.project, owner)


def _listed(found: list[Summary]) -> ConversationsAnswer:
    return ConversationsAnswer(conversations=[ConversationSummary(**_summary(one)) for one in found])


def _summary(found: Summary) -> dict[str, Any]:
    return {"id": found.id, "title": found.title, "updated": round(found.at.timestamp() * 1000)}
