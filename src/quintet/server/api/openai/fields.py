"""Fields of OpenAI's API that need more than a type.

Knows nothing of the bodies that they are part of.
"""

import json
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from quintet.server.schemas.bodies import Text, valid_unicode

MAX_STOPS = 4


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


def default_for_null(default: object) -> BeforeValidator:
    """Take null for what the field is when it is left out."""
    return BeforeValidator(lambda value: default if value is None else value)


class Only:
    """Accepts a field that is not supported as long as it asks for nothing: null, or a neutral value."""

    def __init__(self, *neutral: object) -> None:
        self._allowed = [None, *neutral]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": self._allowed}

    def _check(self, value: object) -> object:
        if value not in self._allowed:
            expected = " or ".join(map(json.dumps, self._allowed))
            message = "not supported; leave it out, or send {expected}"
            raise PydanticCustomError("unsupported", message, {"expected": expected})
        return value


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_prompt(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and all(map(_is_id, value)))


def _as_prompts(value: object) -> object:
    """Return a prompt, or a list of them, as a list; each is a text or token ids."""
    prompts = [value] if _is_prompt(value) else value
    if not (isinstance(prompts, list) and prompts and all(map(_is_prompt, prompts))):
        raise ValueError("expected a text, a list of token ids, or a list of such prompts, none of them empty")
    return [valid_unicode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]


def _as_bias(value: object) -> object:
    """Return a bias by id, whose keys are texts in JSON."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return value
    if not all(isinstance(id_, str) and id_.isascii() and id_.isdigit() and len(id_) < 10 for id_ in value):
        raise ValueError('expected token ids as its keys, such as {"1734": -100}')
    return {int(id_): bias for id_, bias in value.items()}


def _is_object(arguments: str) -> str:
    try:
        if isinstance(json.loads(arguments), dict):
            return arguments
    except (ValueError, RecursionError):
        pass
    raise ValueError("expected a JSON object, written as text")


def _as_choice(value: object) -> str | None:
    """Return `none`, `auto`, `required`, or `call:` and the name of a function."""
    match value:
        case None | "none" | "auto" | "required":
            return value
        case {"type": "function", "function": {"name": str(name)}}:
            return f"call:{name}"
    raise ValueError('expected "none", "auto", "required", or {"type": "function", "function": {"name": "..."}}')


IDS_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
PROMPT_SCHEMA: list[dict[str, Any]] = [{"type": "string", "minLength": 1}, IDS_SCHEMA]
PROMPTS_SCHEMA = {"anyOf": [*PROMPT_SCHEMA, {"type": "array", "items": {"anyOf": PROMPT_SCHEMA}, "minItems": 1}]}
STOP_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MAX_STOPS},
        {"type": "null"},
    ]
}
BIAS_SCHEMA = {
    "anyOf": [
        {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        {"type": "null"},
    ]
}

PART_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
CONTENT_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": PART_SCHEMA}, {"type": "null"}]}
TURN_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"properties": {"content": {"type": ["string", "array"]}}, "required": ["content"]},
        {"properties": {"tool_calls": {"type": "array", "minItems": 1}}, "required": ["tool_calls"]},
    ]
}
"""Only a turn that calls functions may say nothing."""
CHOICE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["none", "auto", "required", None]},
        {
            "type": "object",
            "properties": {
                "type": {"const": "function"},
                "function": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            },
            "required": ["type", "function"],
        },
    ]
}

ToolChoice = Annotated[str | None, PlainValidator(_as_choice), WithJsonSchema(CHOICE_SCHEMA)]
Content = Annotated[Text | None, BeforeValidator(_join_parts), WithJsonSchema(CONTENT_SCHEMA)]
Arguments = Annotated[str, AfterValidator(_is_object)]
NoList = Annotated[Any, Only([])]
Nothing = Annotated[Any, Only()]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Prompts = Annotated[list[str | list[int]], PlainValidator(_as_prompts), WithJsonSchema(PROMPTS_SCHEMA)]
Stops = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=MAX_STOPS),
    BeforeValidator(_as_list),
    WithJsonSchema(STOP_SCHEMA),
]
Bias = Annotated[
    dict[int, Annotated[Finite, Field(ge=-100, le=100)]], BeforeValidator(_as_bias), WithJsonSchema(BIAS_SCHEMA)
]
Penalty = Annotated[Finite, Field(ge=-2, le=2), default_for_null(0.0)]
