"""Bodies of requests and responses, of departments and of the server itself."""

import time
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from quintet.engine.interface import SamplingParams
from quintet.registry.budgets import BudgetUsage
from quintet.registry.keys import Key, Role
from quintet.serving.answer import Ended


class Body(BaseModel):
    """What a client sends: nothing unknown, nothing converted, none of it in errors that may be logged."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a question")
    return text


def valid_unicode(text: str) -> str:
    """Return a text as it is; raise ValueError for one that cannot be written."""
    # JSON can spell half of a surrogate pair, which is no character.
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("expected valid Unicode")
    return text


Text = Annotated[str, AfterValidator(valid_unicode)]


class Query(Body):
    """One question to one model."""

    query: Annotated[Text, AfterValidator(_not_blank)] = Field(
        min_length=1, examples=["How many days of leave do I get?"]
    )
    max_tokens: int = Field(default=256, ge=1, le=4096)
    temperature: float = Field(default=0.7, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float = Field(default=0.9, gt=0, le=1)

    @property
    def sampling(self) -> SamplingParams:
        """The settings as the engine wants them."""
        return SamplingParams(self.max_tokens, self.temperature, self.top_p)


class Said(BaseModel):
    """What was said to one question; `expert` is the version that said it, or `provider` who did; the base has neither.

    `cached` says whether it was there before it was asked for.
    """

    model: str | None
    query: str
    response: str
    tokens_generated: int
    finish_reason: Ended
    latency_ms: float
    expert: str | None
    provider: str | None
    cached: bool


class QueryAnswer(Said):
    """The answer of the model that was asked."""

    model: str


class DepartmentChoice(BaseModel):
    """A department, what it is for, and how likely a question is for it; null where the router does not know it."""

    department: str
    description: str
    probability: float | None


class Likely(BaseModel):
    """A department, and how likely a question is for it."""

    department: str
    probability: float


class RoutedAnswer(Said):
    """The answer to a question that was sent to the department that it is for, and how sure that is.

    `department` is null where none was likely enough: then the base answered (`model` is `base`), or nobody did
    (`model` is null, and `choices` are the departments to choose from, if there are any).
    """

    department: str | None
    probability: float | None
    runner_up: Likely | None
    choices: list[DepartmentChoice]


class Feedback(Body):
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


class ReadFile(BaseModel):
    """The text of a file as Markdown, cut where the context is full; `notes` say what of the file was not read."""

    name: str
    text: str
    tokens: int
    tokens_left_out: int
    notes: list[str]


class Heard(BaseModel):
    """What was said in a recording."""

    text: str


class ReleaseShare(BaseModel):
    """A version that answers for a department, and for how many of a hundred conversations."""

    version: str
    share: int


class ModelEntry(BaseModel):
    """A department: what it is for and whether it can answer; `problem` says why it cannot.

    `release` lists the versions that answer, `version` is the one with the largest share. `answered_by` is the order in
    which its expert and providers are asked. What no expert answers has no method, and its base is a provider's model.
    """

    name: str
    description: str
    method: str | None
    base: str
    status: Literal["loaded", "not loaded", "not released", "not trained", "elsewhere"]
    answered_by: list[str]
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


class BudgetEntry(BaseModel):
    """How many of a unit may be used in a period, how many are, and the seconds until it begins anew."""

    unit: Literal["tokens", "requests"]
    period: Literal["minute", "day"]
    allowed: int
    used: int
    resets_in: int

    @classmethod
    def of(cls, usage: BudgetUsage) -> "BudgetEntry":
        """Return what a budget's usage says."""
        budget = usage.budget
        left = usage.seconds_left(time.time())
        return cls(unit=budget.unit, period=budget.period, allowed=budget.allowed, used=usage.used, resets_in=left)


class Me(BaseModel):
    """Who asks: the id and the name of their key, both null where none is needed, and what they may.

    `hears` is whether the server has recordings transcribed, `keeps_conversations` how long it keeps the key's.
    """

    company: str
    key: str | None
    name: str | None
    roles: tuple[Role, ...]
    expires_at: datetime | None
    budgets: list[BudgetEntry]
    hears: bool
    keeps_conversations: str | None


class KeyEntry(BaseModel):
    """What a key is, what it opens, and where its budgets stand; `*` opens everything."""

    key: str
    name: str | None
    departments: tuple[str, ...]
    roles: tuple[Role, ...]
    created_at: datetime
    expires_at: datetime | None
    budgets: list[BudgetEntry]

    @classmethod
    def of(cls, key: Key) -> "KeyEntry":
        """Return what is said of a key."""
        return cls(
            key=key.id,
            name=key.name,
            departments=key.departments,
            roles=key.roles,
            created_at=key.created_at,
            expires_at=key.expires_at,
            budgets=[BudgetEntry.of(one) for one in key.budgets],
        )


class KeysAnswer(BaseModel):
    """The keys that open something, oldest first."""

    keys: list[KeyEntry]


class Health(BaseModel):
    """Whether the server works, and where."""

    status: Literal["ok"] = "ok"
    device: str
    gpu_name: str | None
    loaded_models: list[str]


class Ready(BaseModel):
    """That the server takes requests."""

    status: Literal["ready"] = "ready"


class Reloaded(BaseModel):
    """What became of the departments, and which keys of quintet.yaml hold only once the server is started again."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    needs_restart: tuple[str, ...]


class ErrorObject(BaseModel):
    """What went wrong, as OpenAI says it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The answer to a request that is refused, or that went wrong."""

    error: ErrorObject


FAILED: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorAnswer, "description": "Refused, or gone wrong: what is wrong, and the fix."}
}
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "No key, or one that opens nothing."},
    403: {"model": ErrorAnswer, "description": "The key lacks the role."},
}
UNKNOWN_REQUEST: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "No answer to a request of that id is known."}
}
NO_CONVERSATION: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "It is too long, or one too many, or none are kept here."},
    404: {"model": ErrorAnswer, "description": "The key has no conversation of that id."},
}
OVER_BUDGET: dict[int | str, dict[str, Any]] = {
    429: {"model": ErrorAnswer, "description": "The key's budget is used up, or too many wait; see Retry-After."}
}
REFUSED_CONFIG: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorAnswer, "description": "quintet.yaml cannot be used, with file and line; nothing is changed."}
}
REFUSED_RELEASE: dict[int | str, dict[str, Any]] = {
    409: {
        "model": ErrorAnswer,
        "description": "The gate blocks it, was not asked, or it cannot answer; nothing changes.",
    }
}
OUT_OF_SERVICE: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorAnswer, "description": "The server is ending, or its engine has stopped."}
}


class Welcome(BaseModel):
    """What this server is, and whether it asks for keys."""

    name: str = "Quintet"
    company: str
    version: str
    device: str
    needs_key: bool
    endpoints: dict[str, str]
