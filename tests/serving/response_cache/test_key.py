"""Which requests have the same answer."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintet.engine.interface import Adapter, Progress, Request, SamplingParams
from quintet.serving.response_cache.key import is_repeatable, key_of

GREEDY = Request((5, 6, 7), (2,), SamplingParams(temperature=0), Adapter("d1", Path("here")), "hr")
DRAWN = replace(GREEDY, sampling=SamplingParams(temperature=0.7, seed=3))


def with_sampling(request: Request, **settings: Any) -> Request:
    return replace(request, sampling=replace(request.sampling, **settings))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (SamplingParams(temperature=0), True),
        (SamplingParams(temperature=0.7, seed=0), True),
        (SamplingParams(temperature=0.7), False),
        (SamplingParams(temperature=1e-9), False),
        (SamplingParams(temperature=0, mask=lambda _: [1]), False),
        (SamplingParams(temperature=0, mask=lambda _: [1], grammar="digits"), True),
    ],
)
def test_only_what_is_greedy_or_seeded_is_repeatable_and_no_mask_that_could_be_any(
    sampling: SamplingParams, expected: bool
) -> None:
    assert is_repeatable(sampling) is expected


@pytest.mark.parametrize(
    "other",
    [
        replace(DRAWN, prompt_ids=(5, 6)),
        replace(DRAWN, prompt_ids=(5, 67)),
        replace(DRAWN, end_ids=(2, 3)),
        replace(DRAWN, adapter=Adapter("d2", Path("here"))),
        replace(DRAWN, adapter=None),
        replace(DRAWN, department="finance"),
        replace(DRAWN, stop=("\n",)),
        with_sampling(DRAWN, max_tokens=9),
        with_sampling(DRAWN, temperature=0.8),
        with_sampling(DRAWN, top_p=0.8),
        with_sampling(DRAWN, seed=4),
        with_sampling(DRAWN, top_k=5),
        with_sampling(DRAWN, min_p=0.1),
        with_sampling(DRAWN, repetition_penalty=1.1),
        with_sampling(DRAWN, frequency_penalty=0.1),
        with_sampling(DRAWN, presence_penalty=0.1),
        with_sampling(DRAWN, logit_bias=((7, 1.0),)),
        with_sampling(DRAWN, logprobs=0),
        with_sampling(DRAWN, grammar="digits"),
    ],
)
def test_what_decides_an_answer_is_in_its_key(other: Request) -> None:
    assert key_of(other, "m") != key_of(DRAWN, "m")


def test_so_is_what_the_model_is() -> None:
    assert key_of(DRAWN, "m") != key_of(DRAWN, "another")


@pytest.mark.parametrize(
    "other",
    [
        replace(DRAWN, progress=Progress(3.0)),
        replace(DRAWN, timeout=9.0),
        replace(DRAWN, adapter=Adapter("d1", Path("elsewhere"))),
        with_sampling(DRAWN, mask=lambda _: [1]),
    ],
)
def test_what_decides_nothing_is_not(other: Request) -> None:
    assert key_of(other, "m") == key_of(DRAWN, "m")


def test_the_order_of_a_bias_decides_nothing() -> None:
    one, other = (with_sampling(DRAWN, logit_bias=bias) for bias in (((1, 2.0), (3, 4.0)), ((3, 4.0), (1, 2.0))))
    assert key_of(one, "m") == key_of(other, "m")


@given(st.integers(), st.floats(0, 1), st.integers(0, 99), st.floats(0, 1))
def test_where_nothing_is_drawn_what_shapes_a_draw_decides_nothing(
    seed: int, top_p: float, top_k: int, min_p: float
) -> None:
    other = with_sampling(GREEDY, seed=seed, top_p=top_p, top_k=top_k, min_p=min_p, temperature=-0.0)
    assert key_of(other, "m") == key_of(GREEDY, "m")


requests = st.builds(
    Request,
    prompt_ids=st.lists(st.integers(0, 20), max_size=3).map(tuple),
    end_ids=st.lists(st.integers(0, 20), max_size=2).map(tuple),
    adapter=st.one_of(st.none(), st.builds(Adapter, st.sampled_from(["d1", "d2"]), st.just(Path("here")))),
    department=st.sampled_from([None, "hr", "finance"]),
    stop=st.lists(st.text('ab,"]', max_size=3), max_size=2).map(tuple),
    sampling=st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 3),
        temperature=st.sampled_from([0.0, 0.5, 1.0]),
        top_p=st.sampled_from([0.5, 1.0]),
        seed=st.one_of(st.none(), st.integers(0, 2)),
        top_k=st.integers(0, 1),
        min_p=st.sampled_from([0.0, 0.1]),
        logprobs=st.one_of(st.none(), st.integers(0, 1)),
        logit_bias=st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-1.0, 1.0])), max_size=2).map(tuple),
        grammar=st.sampled_from([None, "g"]),
    ),
)


def matters(request: Request) -> object:
    """All that decides an answer, written down in another way than the key's."""
    s = request.sampling
    draw = () if s.temperature == 0 else (s.temperature, s.seed, s.top_p, s.top_k, s.min_p)
    rest = (s.max_tokens, s.repetition_penalty, s.frequency_penalty, s.presence_penalty, s.logprobs, s.grammar)
    asked = (request.prompt_ids, request.end_ids, request.stop, request.adapter, request.department)
    return asked, draw, rest, sorted(s.logit_bias)


@given(requests, requests)
def test_two_requests_share_a_key_if_and_only_if_all_that_matters_is_the_same(one: Request, other: Request) -> None:
    assert (key_of(one, "m") == key_of(other, "m")) == (matters(one) == matters(other))


def test_nothing_can_be_read_from_a_key() -> None:
    assert re.fullmatch("[0-9a-f]{64}", key_of(GREEDY, "m"))
