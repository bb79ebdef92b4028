"""What a chat completion may be asked to do to the choice of its tokens, through the official client."""

import math
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletion
from transformers import PreTrainedTokenizerFast

from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Token
from quintet.engine.runner.model_runner import ModelRunner
from quintet.server.app import create_app
from tests.served import ScriptedEngine, Serve

# Answers as long as they may be, whatever is drawn: the id that ends a turn is ruled out.
ENDLESS: dict[str, Any] = {"temperature": 1.5, "seed": 7, "logit_bias": {"2": -100}}
TURNS: list[Any] = [{"role": "user", "content": "Where do I park?"}]


def complete(openai: OpenAI, **options: Any) -> ChatCompletion:
    defaults: dict[str, Any] = {"model": "base", "messages": TURNS, "temperature": 0, "max_tokens": 12}
    answer: ChatCompletion = openai.chat.completions.create(**(defaults | options))
    return answer


def texts(answer: ChatCompletion) -> list[str]:
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    return [choice.message.content or "" for choice in answer.choices]


def test_several_choices_differ_and_count_their_prompt_once(openai: OpenAI) -> None:
    one = complete(openai, **ENDLESS)
    four = complete(openai, **ENDLESS, n=4)
    assert texts(four)[0] == texts(one)[0]
    assert len(set(texts(four))) == 4
    assert one.usage is not None
    assert four.usage is not None
    assert four.usage.prompt_tokens == one.usage.prompt_tokens
    assert four.usage.completion_tokens == 48


def test_several_choices_are_streamed_side_by_side(openai: OpenAI) -> None:
    options: dict[str, Any] = ENDLESS | {"n": 3}
    chunks: Any = list(complete(openai, **options, stream=True, stream_options={"include_usage": True}))
    said = ["", "", ""]
    reasons: list[int] = []
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        said[choice.index] += choice.delta.content or ""
        reasons += [choice.index] if choice.finish_reason else []
    assert said == texts(complete(openai, **options))
    assert sorted(reasons) == [0, 1, 2]
    assert chunks[-1].usage.completion_tokens == 36


def test_only_the_first_choice_computes_the_prompt(project: Project, serve: Serve) -> None:
    engine = MixedEngine(ModelRunner(project.config.base_model, "cpu"))
    long = [{"role": "user", "content": "Where do I park? " * 8}]
    with serve(create_app(project, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        usage = complete(client, messages=long, n=4, temperature=1).usage
    assert usage is not None
    shared = (usage.prompt_tokens - 1) // 16 * 16
    assert shared > 0
    assert engine.status.reused_tokens == 3 * shared


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_are_those_of_the_tokens_that_make_up_the_text(openai: OpenAI, stream: bool) -> None:
    answer: Any = complete(openai, logprobs=True, top_logprobs=2, stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    said = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert len(said) == 12
    text = b"".join(bytes(token.bytes) for token in said).decode(errors="replace")
    assert text == texts(complete(openai))[0]
    for token in said:
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert sum(math.exp(one.logprob) for one in token.top_logprobs) <= 1 + 1e-5


def test_without_top_logprobs_only_the_chosen_are_told(openai: OpenAI) -> None:
    logprobs = complete(openai, logprobs=True).choices[0].logprobs
    assert logprobs is not None
    assert [token.top_logprobs for token in logprobs.content or []] == [[]] * 12


def test_what_a_stop_string_cuts_off_has_no_log_probability(openai: OpenAI) -> None:
    whole = complete(openai, logprobs=True)
    text = texts(whole)[0]
    cut = complete(openai, logprobs=True, stop=text[4:7])
    logprobs = cut.choices[0].logprobs
    assert logprobs is not None
    said = b"".join(bytes(token.bytes or []) for token in logprobs.content or []).decode(errors="replace")
    assert said.startswith(texts(cut)[0])
    assert len(said) < len(text)


def test_a_bias_forces_and_forbids(openai: OpenAI, tokenizer: PreTrainedTokenizerFast) -> None:
    forced = tokenizer.convert_tokens_to_ids("x")
    assert texts(complete(openai, logit_bias={str(forced): 100}, max_tokens=3)) == ["xxx"]
    first = complete(openai, max_tokens=1, logprobs=True).choices[0].logprobs
    assert first is not None
    assert first.content is not None
    (id_,) = tokenizer.encode(first.content[0].token, add_special_tokens=False)
    assert texts(complete(openai, max_tokens=1, logit_bias={str(id_): -100}))[0] != first.content[0].token


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"extra_body": {"top_k": 5}}, {"top_k": 5}),
        ({"extra_body": {"min_p": 0.2}}, {"min_p": 0.2}),
        ({"extra_body": {"repetition_penalty": 1.3}}, {"repetition_penalty": 1.3}),
        ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
        ({"presence_penalty": -0.5}, {"presence_penalty": -0.5}),
        ({"logit_bias": {"7": 2.5}}, {"logit_bias": ((7, 2.5),)}),
        ({"logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
        ({"seed": 3, "n": 2}, {"seed": 3}),
    ],
)
def test_the_engine_gets_what_was_asked_for(
    project: Project, serve: Serve, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    engine = ScriptedEngine([Token(40, "length", -1.0)])
    with serve(create_app(project, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        complete(client, **options)
    sampling = engine.requests[0].sampling
    assert {name: getattr(sampling, name) for name in sent} == sent


def test_each_choice_has_a_seed_of_its_own(project: Project, serve: Serve) -> None:
    engine = ScriptedEngine([Token(40, "length")])
    with serve(create_app(project, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        complete(client, temperature=1, seed=3, n=3)
    assert [request.sampling.seed for request in engine.requests] == [3, 4, 5]


def test_a_number_that_is_none_is_refused(api: httpx.Client) -> None:
    body = '{"model": "base", "messages": [{"role": "user", "content": "Hi"}], "frequency_penalty": NaN}'
    response = api.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "frequency_penalty"


def test_top_logprobs_want_logprobs(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="logprobs to be true") as caught:
        complete(openai, top_logprobs=2)
    assert caught.value.param == "top_logprobs"
