"""The bodies of requests and answers: names, types, bounds. Knows nothing of how they are served."""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from quintet.engine.base import FinishReason, Sampling

MAX_STOPS = 4


class _Body(BaseModel):
    """What a client sends: nothing unknown, nothing converted, none of it in errors that may be logged."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a question")
    return text


def _unicode(text: str) -> str:
    # JSON can spell half of a surrogate pair, which is no character.
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("expected valid Unicode")
    return text


Text = Annotated[str, AfterValidator(_unicode)]


class Query(_Body):
    """One question to one model."""

    query: Annotated[Text, AfterValidator(_not_blank)] = Field(
        min_length=1, examples=["How many days of leave do I get?"]
    )
    max_tokens: int = Field(default=256, ge=1, le=4096)
    temperature: float = Field(default=0.7, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float = Field(default=0.9, gt=0, le=1)

    @property
    def sampling(self) -> Sampling:
        """The settings as the engine wants them."""
        return Sampling(self.max_tokens, self.temperature, self.top_p)


class QueryAnswer(BaseModel):
    """The answer to one question; `expert` is the version that gave it, null for the bare base."""

    model: str
    query: str
    response: str
    tokens_generated: int
    finish_reason: FinishReason
    latency_ms: float
    expert: str | None


class Feedback(_Body):
    """What somebody thinks of an answer, by the id that came in its `X-Request-Id`."""

    request_id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")
    rating: Literal["up", "down"]
    better_answer: Text | None = Field(default=None, pattern=r"\S", max_length=20_000)
    comment: Text | None = Field(default=None, max_length=2000)


class FeedbackAnswer(BaseModel):
    """Which version was rated; `kept` says whether its department keeps requests, and so the texts, or only counts."""

    request_id: str
    model: str
    rating: Literal["up", "down"]
    kept: bool


class ReleaseShare(BaseModel):
    """A version that answers for a department, and for how many of a hundred conversations."""

    version: str
    share: int


class ModelEntry(BaseModel):
    """A department: what it is for and whether it can answer; `problem` says why it cannot.

    `release` lists the versions that answer, `version` is the one with the largest share.
    """

    name: str
    description: str
    method: str
    base: str
    status: Literal["loaded", "not loaded", "not released", "not trained"]
    version: str | None
    release: list[ReleaseShare]
    problem: str | None


class BaseEntry(BaseModel):
    """The base model that all experts share."""

    name: str
    status: Literal["loaded"] = "loaded"


class ModelsAnswer(BaseModel):
    """Every department of the project, and the base."""

    models: list[ModelEntry]
    base: BaseEntry


class Health(BaseModel):
    """Whether the server works, and where."""

    status: Literal["ok"] = "ok"
    device: str
    gpu_name: str | None
    loaded_models: list[str]


class ErrorObject(BaseModel):
    """What went wrong, as OpenAI says it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The answer to a request that is refused, or that went wrong."""

    error: ErrorObject


REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "No key, or one that opens nothing."},
    403: {"model": ErrorAnswer, "description": "The key lacks the role."},
}
UNKNOWN_REQUEST: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "No answer to a request of that id is known."}
}
OVER_BUDGET: dict[int | str, dict[str, Any]] = {
    429: {"model": ErrorAnswer, "description": "The key's budget is used up, or too many wait; see Retry-After."}
}


class Welcome(BaseModel):
    """What this server is."""

    name: str = "Quintet"
    company: str
    version: str
    device: str
    endpoints: dict[str, str]


def _join_parts(content: object) -> object:
    """Return a list of text parts as one text, and everything else as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        is_text = isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        if not is_text:
            raise ValueError('expected text, or a list of parts such as {"type": "text", "text": "..."}')
        texts.append(part["text"])
    return "\n".join(texts)


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else [] if stop is None else stop


def _default_for_null(default: object) -> Callable[[object], object]:
    return lambda value: default if value is None else value


def _only(*neutral: object) -> BeforeValidator:
    """Accept a field that is not supported as long as it asks for nothing: null, or a neutral value."""
    expected = " or ".join(map(json.dumps, [None, *neutral]))

    def check(value: object) -> object:
        if value is not None and value not in neutral:
            message = "not supported; leave it out, or send {expected}"
            raise PydanticCustomError("unsupported", message, {"expected": expected})
        return value

    return BeforeValidator(check)


NoList = Annotated[Any, _only([])]
NoObject = Annotated[Any, _only({})]
Nothing = Annotated[Any, _only()]
Zero = Annotated[Any, _only(0)]


class ChatMessage(_Body):
    """One turn; an assistant's turn may come back as the client received it, empty fields and all."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Text, BeforeValidator(_join_parts)]
    name: str | None = None
    refusal: Nothing = None
    audio: Nothing = None
    annotations: NoList = None
    function_call: Nothing = None
    tool_calls: NoList = None


class StreamOptions(_Body):
    """What a stream holds beside the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(_Body):
    """OpenAI's chat completion request: what is supported, what is harmless, what must stay neutral."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: Annotated[float, BeforeValidator(_default_for_null(0.7))] = Field(default=0.7, ge=0, le=2)
    top_p: Annotated[float, BeforeValidator(_default_for_null(0.9))] = Field(default=0.9, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list)] = Field(
        default=[], max_length=MAX_STOPS
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    parallel_tool_calls: Any = None

    n: Annotated[Any, _only(1)] = None
    tools: NoList = None
    tool_choice: Annotated[Any, _only("none", "auto")] = None
    functions: NoList = None
    function_call: Annotated[Any, _only("none", "auto")] = None
    logprobs: Annotated[Any, _only(False)] = None
    top_logprobs: Zero = None
    logit_bias: NoObject = None
    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    response_format: Annotated[Any, _only({"type": "text"})] = None
    modalities: Annotated[Any, _only(["text"])] = None
    audio: Nothing = None
    prediction: Nothing = None
    reasoning_effort: Annotated[Any, _only("none")] = None
    verbosity: Nothing = None
    web_search_options: Nothing = None

    @property
    def sampling(self) -> Sampling:
        """The settings as the engine wants them."""
        limit = self.max_completion_tokens or self.max_tokens or Sampling.max_tokens
        return Sampling(limit, self.temperature, self.top_p, self.seed)

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Usage(BaseModel):
    """How many tokens went in and came out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswerMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The one answer of a completion."""

    index: Literal[0] = 0
    message: ChatAnswerMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """OpenAI's chat completion; `system_fingerprint` is the expert's version."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None


class OpenAIModel(BaseModel):
    """A model as OpenAI lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["quintet"] = "quintet"


class OpenAIModels(BaseModel):
    """The models that can answer."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]
