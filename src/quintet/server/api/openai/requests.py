"""OpenAI's requests as questions to an expert or a provider."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quintet.errors import ModelError, RequestError
from quintet.messages import Message
from quintet.server.api.openai.schemas import ChatMessage, ChatRequest, CompletionRequest, GenerationRequest
from quintet.serving.answer import Answer
from quintet.serving.catalog import Model
from quintet.serving.generation import Form, GenerationContext, answer_to, prepare_answer
from quintet.serving.output.structured_output import ANY_OBJECT, Grammar, Vocabulary, vocabulary_of
from quintet.serving.output.tool_calls import CallFormat, CallReader, find_call_format
from quintet.serving.providers.request import Asked, estimate_tokens

SAMPLING = frozenset(
    {
        "n", "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty",
        "logit_bias", "seed", "stop",
    }
)  # fmt: skip


@dataclass(frozen=True)
class ChatQuestion:
    """A conversation."""

    chat: ChatRequest

    @property
    def model(self) -> str:
        """The model's name."""
        return self.chat.model

    @property
    def affinity_key(self) -> str:
        """The first of what the user says."""
        return next(iter(self.turns), "")

    @property
    def turns(self) -> list[str]:
        """All that the user says, in order."""
        return [turn.content or "" for turn in self.chat.messages if turn.role == "user"]

    @property
    def takes_any_text(self) -> bool:
        """Whether the answer may be any text: no JSON, no call."""
        wanted = self.chat.response_format
        return not self.chat.demanded and (wanted is None or wanted.type == "text")

    @property
    def uses_token_ids(self) -> bool:
        """Whether some ids are to be likelier."""
        return bool(self.chat.logit_bias)

    async def to_expert(self, context: GenerationContext, model: Model) -> Answer:
        """Put the base's template around it."""
        chat = self.chat
        _check_bias(model, chat.logit_bias)
        vocabulary = await _vocabulary(model) if chat.logprobs else None
        written = await _call_format(model, chat)
        form = Form(await _grammar(model, chat, written), _make_reader(chat, written), vocabulary)
        if written is None:
            return await prepare_answer(context, model, _messages(chat), chat.sampling, chat.stop, n=chat.n, form=form)
        ids = await asyncio.to_thread(_ids_with_tools, model, chat)
        return answer_to(context, model, [ids], chat.sampling, chat.stop, n=chat.n, form=form, field="messages")

    def to_provider(self) -> Asked:
        """Pass on what it says, and what it asks of the answer."""
        chat = self.chat
        fields = _sent(
            chat, {"messages", "logprobs", "top_logprobs", "response_format", "tools", "parallel_tool_calls"}
        )
        match chat.tool_choice:
            case None:
                pass
            case "none" | "auto" | "required":
                fields["tool_choice"] = chat.tool_choice
            case name:
                fields["tool_choice"] = {"type": "function", "function": {"name": name.removeprefix("call:")}}
        said = [turn.content or "" for turn in chat.messages]
        tools = [tool.model_dump_json() for tool in chat.tools or ()]
        has_calls = bool(chat.offered or chat.place_of_a_call)
        return Asked(
            "chat",
            fields,
            estimate_tokens("\n".join([*said, *tools])),
            chat.sampling.max_tokens,
            chat.n,
            () if has_calls else _messages(chat),
        )


@dataclass(frozen=True)
class TextQuestion:
    """Texts that are to go on."""

    request: CompletionRequest

    @property
    def model(self) -> str:
        """The model's name."""
        return self.request.model

    @property
    def affinity_key(self) -> str:
        """The first text."""
        return next(iter(self.turns), "")

    @property
    def turns(self) -> list[str]:
        """The first text, which stands for all of them; none where it is token ids."""
        first = self.request.prompt[0]
        return [first] if isinstance(first, str) else []

    @property
    def takes_any_text(self) -> bool:
        """Whether the answer may be any text: what goes on from another may not."""
        return False

    @property
    def uses_token_ids(self) -> bool:
        """Whether some ids are to be likelier, or a prompt is ids."""
        return bool(self.request.logit_bias) or not all(isinstance(prompt, str) for prompt in self.request.prompt)

    async def to_expert(self, context: GenerationContext, model: Model) -> Answer:
        """Put nothing around it."""
        request = self.request
        _check_bias(model, request.logit_bias)
        form = Form(vocabulary=await _vocabulary(model) if request.logprobs is not None else None)
        prompts = await asyncio.to_thread(lambda: [_ids(model, prompt) for prompt in request.prompt])
        return answer_to(
            context, model, prompts, request.sampling, request.stop, n=request.n, form=form, field="prompt"
        )

    def to_provider(self) -> Asked:
        """Pass on the prompts."""
        request = self.request
        tokens = sum(estimate_tokens(one) if isinstance(one, str) else len(one) for one in request.prompt)
        fields = _sent(request, {"prompt", "logprobs"})
        return Asked("text", fields, tokens, request.sampling.max_tokens, len(request.prompt) * request.n)


def _sent(request: GenerationRequest, own: set[str]) -> dict[str, Any]:
    """Return those of the fields that a provider knows too and the client has set, as OpenAI names them."""
    return request.model_dump(mode="json", by_alias=True, include=own | SAMPLING, exclude_unset=True, exclude_none=True)


def _messages(chat: ChatRequest) -> list[Message]:
    return [Message(_role(turn), turn.content or "") for turn in chat.messages]


def _make_reader(chat: ChatRequest, written: CallFormat | None) -> Callable[[], CallReader] | None:
    if written is None or not chat.offered:
        return None
    names = [tool.function.name for tool in chat.offered]
    return lambda: CallReader(written, names, 1 if chat.parallel_tool_calls is False else None)


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


async def _grammar(model: Model, chat: ChatRequest, written: CallFormat | None) -> Grammar | None:
    """Return the grammar of a call or a format, if any is demanded; raise RequestError for a schema of no use."""
    wanted = chat.response_format
    if written is not None and chat.demanded:
        if wanted is not None and wanted.type != "text":
            message = "response_format: expected text where a call is demanded by tool_choice; leave one of them out"
            raise RequestError(message, param="response_format")
        vocabulary = await _vocabulary(model)
        call = written.grammar([tool.function.model_dump(exclude_none=True) for tool in chat.demanded])
        return await asyncio.to_thread(vocabulary.obeying_grammar, call, "tools")
    if wanted is None or wanted.type == "text":
        return None
    schema = wanted.json_schema.json_schema if wanted.json_schema else ANY_OBJECT
    vocabulary = await _vocabulary(model)
    return await asyncio.to_thread(vocabulary.obeying_schema, schema, "response_format")
