"""Completions without a template, through the official client."""

from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from openai.types import Completion
from transformers import PreTrainedTokenizerFast

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.server.app import create_app
from tests.served import ScriptedEngine, Serve

PROMPT = "You get 26 days"


def complete(openai: OpenAI, prompt: Any = PROMPT, **options: Any) -> Completion:
    defaults: dict[str, Any] = {"model": "hr", "temperature": 0, "max_tokens": 8}
    answer: Completion = openai.completions.create(prompt=prompt, **(defaults | options))
    return answer


def texts(answer: Completion) -> list[str]:
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    return [choice.text for choice in answer.choices]


def test_a_completion_has_text_usage_and_the_expert_that_gave_it(openai: OpenAI) -> None:
    answer = complete(openai)
    assert (answer.object, answer.model, answer.system_fingerprint) == ("text_completion", "hr", "hr@1")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_no_template_is_put_around_a_prompt_and_special_tokens_may_be_written_in_it(
    project: Project, serve: Serve, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine = ScriptedEngine([Token(None, "stop")])
    written = "<|im_start|>user\nHi<|im_end|>\n"
    with serve(create_app(project, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        complete(client, [PROMPT, written, [5, 6, 7]], model="base")
    expected = [tokenizer.encode(PROMPT), tokenizer.encode(written), [5, 6, 7]]
    assert [list(request.prompt_ids) for request in engine.requests] == expected


def test_ids_are_the_same_prompt_as_their_text(openai: OpenAI, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode(PROMPT)
    assert texts(complete(openai, ids)) == texts(complete(openai)) == texts(complete(openai, [ids]))


def test_each_of_several_prompts_has_its_own_choices(openai: OpenAI) -> None:
    apart = [texts(complete(openai, prompt)) for prompt in (PROMPT, "Pay day is")]
    together = complete(openai, [PROMPT, "Pay day is"], n=2)
    assert texts(together) == apart[0] * 2 + apart[1] * 2
    assert together.usage is not None
    assert together.usage.completion_tokens == 32


def test_a_stream_brings_the_same_texts_in_pieces(openai: OpenAI) -> None:
    prompts = [PROMPT, "Pay day is"]
    said = ["", ""]
    reasons = []
    chunks: Any = complete(openai, prompts, stream=True)
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        said[choice.index] += choice.text
        reasons += [choice.finish_reason] if choice.finish_reason else []
    assert said == texts(complete(openai, prompts))
    assert reasons == ["length", "length"]


def test_log_probabilities_come_with_where_their_tokens_stand(openai: OpenAI) -> None:
    choice = complete(openai, logprobs=2).choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert len(logprobs.tokens) == 8
    for token, at in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert choice.text[at : at + len(token)] == token
    assert logprobs.token_logprobs == [max(top.values()) for top in logprobs.top_logprobs or []]


def test_sixteen_tokens_come_unless_more_are_asked_for(openai: OpenAI) -> None:
    answer = complete(openai, max_tokens=None, logit_bias={"2": -100})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("echo", True),
        ("suffix", "the end"),
        ("best_of", 3),
        ("logprobs", 21),
        ("prompt", ""),
        ("prompt", []),
        ("prompt", [5, "six"]),
        ("prompt", [-1]),
        ("prompt", [99999]),
        ("prompt", [True]),
        ("prompt", ["a"] * 33),
        ("prompt", "z" * 3000),
        ("stop", ""),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(openai: OpenAI, field: str, value: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        complete(openai, **{field: value})
    assert caught.value.param in (field, f"{field}[0]")
    assert field in caught.value.message or field == "prompt"
