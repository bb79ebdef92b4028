"""Bodies of OpenAI's API: which fields are supported, which are ignored, which must stay neutral."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from quintet.engine.interface import SamplingParams
from quintet.server.api.openai.fields import (
    TURN_SCHEMA,
    Arguments,
    Bias,
    Content,
    Finite,
    NoList,
    Nothing,
    Only,
    Penalty,
    Prompts,
    Stops,
    ToolChoice,
    default_for_null,
)
from quintet.server.schemas.bodies import Body, Text
from quintet.serving.answer import Ended

MAX_CHOICES = 32
"""Choices of one request, over all of its prompts: as many as the engine answers at once by default."""
MAX_LOGPROBS = 20


class StreamOptions(Body):
    """What a stream holds beside the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(Body):
    """What both kinds of completions have in common: the model, the sampling, the stream."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    n: Annotated[int, default_for_null(1)] = Field(default=1, ge=1, le=MAX_CHOICES)
    temperature: Annotated[Finite, default_for_null(0.7)] = Field(default=0.7, ge=0, le=2)
    top_p: Annotated[Finite, default_for_null(0.9)] = Field(default=0.9, gt=0, le=1)
    top_k: Annotated[int, default_for_null(0)] = Field(default=0, ge=0, description="0 is off.")
    min_p: Annotated[Finite, default_for_null(0.0)] = Field(default=0, ge=0, le=1)
    frequency_penalty: Penalty = 0
    presence_penalty: Penalty = 0
    repetition_penalty: Annotated[Finite, default_for_null(1.0)] = Field(default=1, ge=0.01, le=100)
    logit_bias: Bias = Field(default={})
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stops = Field(default=[])
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Any = None

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def _sampling(self, max_tokens: int, logprobs: int | None) -> SamplingParams:
        """Return the settings as the engine wants them."""
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=tuple(self.logit_bias.items()),
            logprobs=logprobs,
        )


class CompletionRequest(GenerationRequest):
    """OpenAI's completion request: prompts that no template is put around."""

    prompt: Prompts = Field(examples=["The working week has"])
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    echo: Annotated[Any, Only(False)] = None
    suffix: Annotated[Any, Only("")] = None
    best_of: Annotated[Any, Only(1)] = None

    @field_validator("prompt")
    @classmethod
    def _few_enough(cls, prompts: list[str | list[int]], info: ValidationInfo) -> list[str | list[int]]:
        if len(prompts) * info.data.get("n", 1) > MAX_CHOICES:
            raise ValueError(f"expected at most {MAX_CHOICES} choices in one request, over all of its prompts")
        return prompts

    @property
    def sampling(self) -> SamplingParams:
        """The settings as the engine wants them; without a limit, OpenAI's."""
        return self._sampling(self.max_tokens or 16, self.logprobs)


class CalledFunction(Body):
    """A function that the assistant called, and its arguments as JSON."""

    name: str
    arguments: Arguments


class ToolCall(Body):
    """One call of an assistant's turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Function(Body):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """Something that the model may use."""

    type: Literal["function"]
    function: Function


class ChatMessage(Body):
    """One turn; an assistant's turn may come back as the client received it, empty fields and all."""

    model_config = ConfigDict(json_schema_extra=TURN_SCHEMA)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    content: Content = Field(default=None, validate_default=True)
    name: str | None = None
    refusal: Nothing = None
    audio: Nothing = None
    annotations: NoList = None
    function_call: Nothing = None

    @field_validator("content")
    @classmethod
    def _says_something(cls, content: str | None, info: ValidationInfo) -> str | None:
        if content is None and not info.data.get("tool_calls"):
            raise ValueError("expected text")
        return content


class NamedSchema(Body):
    """A JSON schema that the answer must follow."""

    # `schema` is the name of a method that every pydantic model has.
    model_config = ConfigDict(populate_by_name=False)

    name: str
    description: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """What the answer must be: text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = Field(default=None, validate_default=True)

    @field_validator("json_schema")
    @classmethod
    def _comes_with_its_type(cls, schema: NamedSchema | None, info: ValidationInfo) -> NamedSchema | None:
        if "type" in info.data and (schema is None) == (info.data["type"] == "json_schema"):
            raise ValueError('expected a schema with the type "json_schema", and with no other')
        return schema


class ChatRequest(GenerationRequest):
    """OpenAI's chat completion request."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    response_format: ResponseFormat | None = None

    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None

    functions: NoList = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    modalities: Annotated[Any, Only(["text"])] = None
    audio: Nothing = None
    prediction: Nothing = None
    reasoning_effort: Annotated[Any, Only("none")] = None
    verbosity: Nothing = None
    web_search_options: Nothing = None

    @field_validator("tool_choice")
    @classmethod
    def _names_a_tool(cls, choice: str | None, info: ValidationInfo) -> str | None:
        names = [tool.function.name for tool in info.data.get("tools") or ()]
        if choice not in (None, "none", "auto") and not (names if choice == "required" else choice[5:] in names):
            raise ValueError("expected the name of one of the tools that are sent with it")
        return choice

    @property
    def offered(self) -> list[Tool]:
        """The functions that the model may call."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def place_of_a_call(self) -> str | None:
        """Where the conversation has a call, or what came of one."""
        for place, turn in enumerate(self.messages):
            if turn.role == "tool" or turn.tool_calls:
                return f"messages[{place}].{'role' if turn.role == 'tool' else 'tool_calls'}"
        return None

    @property
    def demanded(self) -> list[Tool]:
        """The functions of which one must be called; none when the model may choose."""
        if self.tool_choice in (None, "none", "auto"):
            return []
        return [t for t in self.tools or () if self.tool_choice in ("required", f"call:{t.function.name}")]

    @field_validator("top_logprobs")
    @classmethod
    def _comes_with_logprobs(cls, top: int | None, info: ValidationInfo) -> int | None:
        if top and not info.data.get("logprobs", True):
            raise ValueError("expected logprobs to be true with it")
        return top

    @property
    def sampling(self) -> SamplingParams:
        """The settings as the engine wants them."""
        limit = self.max_completion_tokens or self.max_tokens or SamplingParams.max_tokens
        return self._sampling(limit, self.top_logprobs or 0 if self.logprobs else None)


class Usage(BaseModel):
    """How many tokens went in and came out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenLogprob(BaseModel):
    """A token that could come, the logarithm of its probability, and its bytes: it may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class SaidLogprob(TokenLogprob):
    """A token that came, and the likeliest in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """The log probabilities of an answer, token by token."""

    content: list[SaidLogprob]
    refusal: None = None


class ChatAnswerMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(BaseModel):
    """One of the answers."""

    index: int
    message: ChatAnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Ended | Literal["tool_calls"]


class ChatCompletion(BaseModel):
    """OpenAI's chat completion; `system_fingerprint` is the expert's version.

    `cached`, which OpenAI does not have, says whether the answer was there before it was asked for.
    """

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None
    cached: bool


class TextLogprobs(BaseModel):
    """The log probabilities of a completion, as lists with an item for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One of the texts that go on from a prompt."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Ended | None


class Completion(BaseModel):
    """OpenAI's completion; choice `index` belongs to prompt `index // n`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None
    system_fingerprint: str | None
    cached: bool


class OpenAIModel(BaseModel):
    """A model as OpenAI lists it.

    An expert's `parent` is its base and its `root` the digest of its files; a base has no parent.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["quintet"] = "quintet"
    root: str
    parent: str | None


class OpenAIModels(BaseModel):
    """The models that can answer."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]
