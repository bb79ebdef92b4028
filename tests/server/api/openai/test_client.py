"""The official OpenAI client, unchanged, against a running server."""

import json
from typing import Any

import httpx
import pytest
from openai import APIError, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from quintet.config import Project
from quintet.registry.experts import find_expert

TURNS: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Where do I park?"}]


def complete(openai: OpenAI, model: str = "hr", **options: Any) -> ChatCompletion:
    defaults: dict[str, Any] = {"messages": TURNS, "temperature": 0, "max_tokens": 12}
    answer: ChatCompletion = openai.chat.completions.create(model=model, **(defaults | options))
    return answer


def text_of(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def test_a_completion_has_text_usage_and_the_expert_that_gave_it(openai: OpenAI) -> None:
    answer = complete(openai, "base", max_tokens=5)
    assert (answer.model, answer.object, answer.system_fingerprint) == ("base", "chat.completion", None)
    assert (answer.choices[0].message.role, answer.choices[0].finish_reason) == ("assistant", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert complete(openai, "hr").system_fingerprint == "hr@1"


def test_the_chat_route_and_the_department_route_answer_alike(openai: OpenAI, api: httpx.Client) -> None:
    body = {"query": TURNS[0]["content"], "temperature": 0, "max_tokens": 12}
    assert api.post("/api/hr", json=body).json()["response"] == text_of(complete(openai))


def test_a_stream_brings_the_same_text_in_pieces(openai: OpenAI) -> None:
    whole = complete(openai)
    chunks: Any = list(complete(openai, stream=True))
    choices = [chunk.choices[0] for chunk in chunks]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == text_of(whole)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == [whole.choices[0].finish_reason]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_the_usage_when_asked(openai: OpenAI) -> None:
    chunks: Any = list(complete(openai, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == complete(openai).usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_list_of_text_parts_is_one_text(openai: OpenAI) -> None:
    parts = [{"type": "text", "text": "Where do"}, {"type": "text", "text": "I park?"}]
    as_parts = complete(openai, messages=[{"role": "user", "content": parts}])
    as_text = complete(openai, messages=[{"role": "user", "content": "Where do\nI park?"}])
    assert (as_parts.choices, as_parts.usage) == (as_text.choices, as_text.usage)


def test_a_conversation_goes_on_from_the_answer_as_it_came(openai: OpenAI) -> None:
    first = complete(openai).choices[0].message
    turns = [
        {"role": "system", "content": "Be brief."},
        *TURNS,
        first.model_dump(),
        {"role": "user", "content": "Why?"},
    ]
    assert complete(openai, messages=turns).choices


def test_the_developer_speaks_as_the_system(openai: OpenAI) -> None:
    def brief(role: str) -> str:
        return text_of(complete(openai, messages=[{"role": role, "content": "Be brief."}, *TURNS]))

    assert brief("developer") == brief("system")


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_and_is_left_out(openai: OpenAI, stream: bool) -> None:
    whole = text_of(complete(openai, "base"))
    stop = whole[3:6]
    answer: Any = complete(openai, "base", stop=[stop, "never said"], stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    text = "".join((c.delta.content or "") if stream else c.message.content for c in choices)
    assert text == whole[: whole.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_a_seed_makes_sampling_repeatable(openai: OpenAI) -> None:
    def sample(seed: int) -> str:
        return text_of(complete(openai, "base", temperature=1.5, seed=seed))

    assert sample(3) == sample(3)
    assert sample(3) != sample(4)


def test_the_newer_name_of_max_tokens_counts(openai: OpenAI) -> None:
    answer = complete(openai, "base", max_tokens=None, max_completion_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_harmless_fields_are_accepted(openai: OpenAI) -> None:
    harmless: dict[str, Any] = {
        "user": "u1", "metadata": {"a": "b"}, "store": False, "n": 1, "tools": [], "logit_bias": {},
        "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0, "stop": None,
        "response_format": {"type": "text"}, "service_tier": "auto", "seed": None, "top_p": None,
    }  # fmt: skip
    assert complete(openai, **harmless).choices == complete(openai).choices


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", 33),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("top_logprobs", 3),
        ("logit_bias", {"five": 10}),
        ("logit_bias", {"99999": 10}),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("temperature", 2.5),
        ("top_p", 0),
        ("max_tokens", 0),
        ("stop", ["1", "2", "3", "4", "5"]),
        ("messages", []),
        ("seed", 2**63),
        ("reasoning_effort", "high"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(openai: OpenAI, field: str, value: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        complete(openai, **{field: value})
    assert caught.value.param == field
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("turn", "param"),
    [
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, "messages[1].role"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[1].content"),
        ({"role": "assistant", "content": None}, "messages[1].content"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": "\ud800"}, "messages[1].content"),
    ],
)  # fmt: skip
def test_a_turn_that_cannot_be_honoured_is_refused_by_place(api: httpx.Client, turn: Any, param: str) -> None:
    body = json.dumps({"model": "hr", "messages": [*TURNS, turn]})
    headers = {"Content-Type": "application/json"}
    raw = api.post("/v1/chat/completions", content=body, headers=headers)
    assert raw.status_code == 400
    assert raw.json()["error"]["param"] == param


def test_an_unknown_field_is_refused_by_name(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        complete(openai, extra_body={"guided_regex": "a+"})
    assert (caught.value.param, caught.value.code) == ("guided_regex", "unknown_parameter")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_longer_than_the_context_is_a_bad_request(openai: OpenAI, stream: bool) -> None:
    with pytest.raises(BadRequestError) as caught:
        complete(openai, messages=[{"role": "user", "content": "z" * 3000}], stream=stream)
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")


@pytest.mark.parametrize("model", ["legal", "finance"])
def test_a_model_that_is_not_there_is_not_found(openai: OpenAI, model: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        complete(openai, model)
    assert isinstance(caught.value, APIError)
    assert caught.value.type == "invalid_request_error"


def test_the_models_listed_are_those_that_can_answer(openai: OpenAI) -> None:
    listed = openai.models.list().data
    assert [(model.id, model.owned_by) for model in listed] == [("hr", "quintet"), ("base", "quintet")]
    assert all(model.created > 1_600_000_000 for model in listed)


def test_an_expert_names_its_base_and_its_files(openai: OpenAI, company: Project) -> None:
    base, expert = openai.models.retrieve("base").to_dict(), openai.models.retrieve("hr").to_dict()
    assert (base["parent"], base["root"]) == (None, company.config.base_model)
    assert (expert["parent"], expert["root"]) == ("base", find_expert(company, "hr").digest)


def test_one_model_can_be_looked_up(openai: OpenAI) -> None:
    assert openai.models.retrieve("hr@1").id == "hr@1"
    with pytest.raises(NotFoundError):
        openai.models.retrieve("finance")
