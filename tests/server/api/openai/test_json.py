"""Answers that must be JSON, of any kind or of a schema, and what is said of schemas that are of no use."""

import json
from typing import Any

import pytest
from jsonschema import validate
from openai import BadRequestError, OpenAI

TURNS: list[Any] = [{"role": "user", "content": "Where do I park?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"enum": ["clinic", "street"]}, "floor": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["place", "floor"],
    "additionalProperties": False,
}


def of_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "parking", "schema": schema, "strict": True}}


def answers(openai: OpenAI, response_format: Any, **options: Any) -> list[str]:
    defaults: dict[str, Any] = {"model": "base", "messages": TURNS, "temperature": 1, "seed": 2, "max_tokens": 150}
    completion = openai.chat.completions.create(response_format=response_format, **(defaults | options))
    return [choice.message.content or "" for choice in completion.choices if choice.finish_reason == "stop"]


def test_a_random_model_answers_in_the_schema(openai: OpenAI) -> None:
    found = answers(openai, of_schema(SCHEMA), n=4)
    assert len(found) == 4
    for text in found:
        validate(json.loads(text), SCHEMA)
    assert len(set(found)) > 1


def test_no_tokens_are_spent_on_white_space(openai: OpenAI) -> None:
    for text in answers(openai, of_schema(SCHEMA), n=4):
        assert "\n" not in text
        assert "  " not in text


def test_an_expert_does_too_in_a_stream(openai: OpenAI) -> None:
    chunks = openai.chat.completions.create(
        model="hr",
        messages=TURNS,
        temperature=1,
        seed=4,
        stream=True,
        response_format=of_schema(SCHEMA),  # type: ignore[call-overload]
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    validate(json.loads(text), SCHEMA)


def test_any_object_will_do_where_no_schema_is_named(openai: OpenAI) -> None:
    found = answers(openai, {"type": "json_object"}, n=16)
    assert found
    assert all(isinstance(json.loads(text), dict) for text in found)


def test_text_is_what_comes_without_a_format(openai: OpenAI) -> None:
    assert answers(openai, {"type": "text"}, temperature=0) == answers(openai, None, temperature=0)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "pattern": "(?=a)b"}, "regex"),
    ],
)
def test_a_schema_that_cannot_be_compiled_is_refused_with_the_reason(
    openai: OpenAI, schema: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadRequestError, match=why) as caught:
        answers(openai, of_schema(schema))
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    "wanted", [{"type": "json_schema"}, {"type": "json_object", "json_schema": {"name": "a", "schema": {}}}]
)
def test_a_schema_comes_with_its_type_and_with_no_other(openai: OpenAI, wanted: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        answers(openai, wanted)
    assert caught.value.param == "response_format.json_schema"
