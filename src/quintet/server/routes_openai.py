"""OpenAI's API, so that its clients work unchanged. Knows nothing of departments but as models."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request

from quintet.config import BASE
from quintet.data.examples import Message
from quintet.errors import ModelError, RequestError
from quintet.registry.experts import Expert
from quintet.server.answering import MakeMask, answer_to, prepare_answer
from quintet.server.auth import NEEDS_KEY, ask
from quintet.server.catalog import Model
from quintet.server.disconnection import while_connected
from quintet.server.grammar import ANY_OBJECT, Vocabulary, vocabulary_of
from quintet.server.openai_answers import ChatReply, Reply, TextReply
from quintet.server.schemas import OVER_BUDGET, REFUSED
from quintet.server.schemas_openai import (
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    Completion,
    CompletionRequest,
    OpenAIModel,
    OpenAIModels,
)
from quintet.server.services import Served, Services
from quintet.server.streaming import stream
from quintet.server.tool_calls import CallFormat, find_call_format

router = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=[*NEEDS_KEY], responses=REFUSED)

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer: whole, or with `stream` as events.", "content": {"text/event-stream": {}}}
}


@router.get("/models", summary="The models that can answer, as OpenAI lists them")
async def models(served: Served) -> OpenAIModels:
    """List the departments that have a release, and the base."""
    entries = await served.catalog.entries()
    listed = [_listed(entry.name, entry.expert, served) for entry in entries if entry.expert]
    base = [_listed(BASE, None, served)] if BASE in served.project.models else []
    return OpenAIModels(data=[*listed, *base])


@router.get("/models/{model}", summary="One model, as OpenAI lists it")
async def model(model: str, served: Served) -> OpenAIModel:
    """Say whether there is a model of that name."""
    return _listed(model, await asyncio.to_thread(served.catalog.find, model), served)


@router.post(
    "/chat/completions",
    summary="OpenAI's chat completions, streamed or whole",
    response_model=ChatCompletion,
    dependencies=[Depends(ask)],
    responses={**OVER_BUDGET, **STREAMED},
)
async def chat_completions(request: Request, chat: ChatRequest, served: Served) -> Any:
    """Answer a conversation."""
    return await while_connected(request, _chat(served, chat))


@router.post(
    "/completions",
    summary="OpenAI's completions: texts that go on from a prompt, without a template",
    response_model=Completion,
    dependencies=[Depends(ask)],
    responses={**OVER_BUDGET, **STREAMED},
)
async def completions(request: Request, completion: CompletionRequest, served: Served) -> Any:
    """Go on from each prompt."""
    return await while_connected(request, _text(served, completion))


async def _chat(served: Services, chat: ChatRequest) -> Any:
    model = await served.catalog.open(chat.model, _first_question(chat))
    _check_bias(model, chat.logit_bias)
    vocabulary = await _vocabulary(model) if chat.logprobs else None
    written = await _call_format(model, chat)
    make_mask = await _mask(model, chat, written)
    if written is None:
        answer = await prepare_answer(
            served.engine, model, _messages(chat), chat.sampling, chat.stop, n=chat.n, make_mask=make_mask
        )
    else:
        ids = await asyncio.to_thread(_ids_with_tools, model, chat)
        answer = answer_to(
            served.engine, model, [ids], chat.sampling, chat.stop, n=chat.n, make_mask=make_mask, field="messages"
        )
    return await _respond(ChatReply(chat, model, answer, vocabulary, written if chat.offered else None))


async def _text(served: Services, request: CompletionRequest) -> Any:
    first = request.prompt[0]
    model = await served.catalog.open(request.model, first if isinstance(first, str) else "")
    _check_bias(model, request.logit_bias)
    vocabulary = await _vocabulary(model) if request.logprobs is not None else None
    prompts = await asyncio.to_thread(lambda: [_ids(model, prompt) for prompt in request.prompt])
    answer = answer_to(served.engine, model, prompts, request.sampling, request.stop, n=request.n, field="prompt")
    return await _respond(TextReply(request, model, answer, vocabulary))


async def _respond(reply: Reply) -> Any:
    return await stream(reply) if reply.request.stream else reply.whole(await reply.answer.whole())


def _first_question(chat: ChatRequest) -> str:
    """Return what all requests of one conversation have in common."""
    return next((turn.content or "" for turn in chat.messages if turn.role == "user"), "")


def _messages(chat: ChatRequest) -> list[Message]:
    return [Message(_role(turn), turn.content or "") for turn in chat.messages]


def _role(turn: ChatMessage) -> str:
    # OpenAI's newer models call the system's turns the developer's; templates know only the system.
    return "system" if turn.role == "developer" else turn.role


async def _call_format(model: Model, chat: ChatRequest) -> CallFormat | None:
    """Return how calls are written, when they matter; raise RequestError for a base that cannot make any."""
    field = "tools" if chat.offered else chat.place_of_a_call
    if field is None:
        return None
    written = await asyncio.to_thread(find_call_format, model.translator)
    if written is None:
        raise RequestError(
            f"{field}: the chat template of {model.name!r} has no place for functions, or marks their calls with "
            "special tokens; leave them out, or use a base whose template writes them as JSON",
            param=field,
            code="unsupported_parameter",
        )
    return written


def _ids_with_tools(model: Model, chat: ChatRequest) -> list[int]:
    tools = [tool.model_dump(exclude_none=True) for tool in chat.offered]
    try:
        return model.translator.encode_turns([_turn(turn) for turn in chat.messages], tools)
    except ModelError as error:
        raise RequestError(str(error), param="messages") from error


def _turn(turn: ChatMessage) -> dict[str, Any]:
    """Return a turn as templates want it: the arguments of a call are no text there."""
    calls = [call.model_dump() for call in turn.tool_calls or ()]
    for call in calls:
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    rest = {"tool_calls": calls, "tool_call_id": turn.tool_call_id, "name": turn.name}
    return {"role": _role(turn), "content": turn.content or "", **{key: held for key, held in rest.items() if held}}


def _ids(model: Model, prompt: str | list[int]) -> list[int]:
    """Return a prompt's ids; raise RequestError for one that means nothing to the model."""
    ids = model.translator.encode_text(prompt) if isinstance(prompt, str) else prompt
    if not ids:
        raise RequestError("prompt: expected at least one token, found none", param="prompt")
    _check_ids(model, ids, "prompt")
    return ids


def _check_bias(model: Model, bias: Mapping[int, float]) -> None:
    _check_ids(model, bias, "logit_bias")


def _check_ids(model: Model, ids: Iterable[int], field: str) -> None:
    size = len(model.translator.tokenizer)
    if strange := next((id_ for id_ in ids if id_ >= size), None):
        raise RequestError(
            f"{field}: expected token ids below {size}, which is how many {model.name!r} has, found {strange}",
            param=field,
        )


async def _vocabulary(model: Model) -> Vocabulary:
    return await asyncio.to_thread(vocabulary_of, model.translator)


async def _mask(model: Model, chat: ChatRequest, written: CallFormat | None) -> MakeMask | None:
    """Return what makes masks for a call or a format, if any is demanded; raise RequestError for a schema of no use."""
    wanted = chat.response_format
    if written is not None and chat.demanded:
        if wanted is not None and wanted.type != "text":
            message = "response_format: expected text where a call is demanded by tool_choice; leave one of them out"
            raise RequestError(message, param="response_format")
        vocabulary = await _vocabulary(model)
        grammar = written.grammar([tool.function.model_dump(exclude_none=True) for tool in chat.demanded])
        return await asyncio.to_thread(vocabulary.obeying_grammar, grammar, "tools")
    if wanted is None or wanted.type == "text":
        return None
    schema = wanted.json_schema.json_schema if wanted.json_schema else ANY_OBJECT
    vocabulary = await _vocabulary(model)
    return await asyncio.to_thread(vocabulary.obeying_schema, schema, "response_format")


def _listed(name: str, expert: Expert | None, served: Services) -> OpenAIModel:
    if expert is None:
        return OpenAIModel(id=name, created=served.started, root=served.project.config.base_model, parent=None)
    written = expert.created_at.timestamp() if expert.created_at else served.started
    return OpenAIModel(id=name, created=int(written), root=expert.digest, parent=BASE)
