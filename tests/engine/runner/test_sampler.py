"""The sampler against transformers' own processors, and against the distribution that it should draw from."""
# The shape letters are capitals.
# ruff: noqa: N803

import math
from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from quintet.engine.interface import SamplingParams
from quintet.engine.runner.sampler import Odds, SampledToken, sample
from quintet.engine.scheduling.sequence import Sequence
from quintet.errors import ModelError, RequestError

PROMPT = (3, 5, 8)
SETTINGS = [
    SamplingParams(temperature=0.7, top_p=1.0),
    SamplingParams(temperature=1.3, top_p=0.9),
    SamplingParams(temperature=1.0, top_p=0.0),
    SamplingParams(temperature=1.0, top_p=1.0, top_k=7),
    SamplingParams(temperature=0.5, top_p=1.0, top_k=1000),
    SamplingParams(temperature=1.0, top_p=1.0, min_p=0.2),
    SamplingParams(temperature=2.0, top_p=0.8, top_k=20, min_p=0.05),
]


def logits(rows: int = 1, size: int = 100, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def sequence(sampling: SamplingParams, generated: tuple[int, ...] = ()) -> Sequence:
    one = Sequence(PROMPT, (), 100, sampling)
    one.ids += generated
    return one


def chosen(choice: SampledToken | Exception) -> int:
    assert isinstance(choice, SampledToken)
    return choice.id


def pick(logits_NV: Tensor, *samplings: SamplingParams, generated: tuple[int, ...] = ()) -> list[int]:
    return [chosen(choice) for choice in sample(logits_NV, [sequence(each, generated) for each in samplings])]


def transformers_warpers(sampling: SamplingParams) -> LogitsProcessorList:
    """What `generate` makes of the same settings, in its order."""
    warpers = LogitsProcessorList()
    if sampling.temperature != 1:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


def by_transformers(scores: Tensor, samplings: list[SamplingParams]) -> Tensor:
    none: Any = torch.empty(1, 0, dtype=torch.long)
    rows: Any = zip(samplings, scores.unsqueeze(1), strict=True)
    return torch.cat([transformers_warpers(sampling)(none, row) for sampling, row in rows])


def drawable(scores: Tensor, samplings: list[SamplingParams]) -> Tensor:
    """Which ids of each row may be drawn, as the sampler sees it, asked one by one."""
    odds = Odds.of(scores, samplings)
    cut = [odds.reject(torch.full((len(samplings),), id_)).keys() for id_ in range(scores.shape[1])]
    kept = torch.tensor([[row not in rows for rows in cut] for row in range(len(samplings))])
    return kept & (odds.weights_NV > 0)[:, : scores.shape[1]]


def check_cuts(scores: Tensor, samplings: list[SamplingParams]) -> None:
    """Compare what may be drawn with what transformers leaves, and the odds of it with each other."""
    theirs = by_transformers(scores, samplings).softmax(-1)
    ours = Odds.of(scores, samplings).weights_NV[:, : scores.shape[1]] * drawable(scores, samplings)
    assert torch.equal(ours > 0, theirs > 0)
    torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), theirs)


def test_what_may_be_drawn_is_what_transformers_leaves_for_all_settings_in_one_batch() -> None:
    check_cuts(logits(len(SETTINGS)), SETTINGS)


@pytest.fixture
def stable_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, which of equals transformers cuts is left to chance."""
    monkeypatch.setattr(torch, "sort", partial(torch.sort, stable=True))


@pytest.mark.usefixtures("stable_sort")
@pytest.mark.parametrize("seed", range(4))
def test_of_equal_scores_the_lowest_ids_are_cut_first(seed: int) -> None:
    """Eight of 16 ids are as likely as each other, or 128 of 128: shares that are exact, up to the last bit."""
    rng = torch.Generator().manual_seed(seed)
    rising = torch.tensor([-math.inf] * 4 + [0.0] * 8 + [math.log(2)] * 4)[torch.randperm(16, generator=rng)]
    top_p = [0.0, 0.125, 0.25, 0.5, 0.51, 0.625, 0.75, 0.875, 0.99, 1.0]
    samplings = [SamplingParams(temperature=1.0, top_p=p) for p in top_p]
    samplings += [SamplingParams(temperature=1.0, top_p=p, top_k=k) for p in (0.5, 1.0) for k in (1, 3, 4, 5, 12)]
    check_cuts(rising.expand(len(samplings), -1), samplings)
    check_cuts(torch.zeros(len(samplings), 128), samplings)


@pytest.mark.usefixtures("stable_sort")
def test_flat_scores_and_those_of_low_precision_are_cut_as_transformers_cuts_them() -> None:
    settings = [
        SamplingParams(temperature=t, top_p=p, top_k=k) for t in (0.5, 3.0) for p in (0.1, 0.5, 0.95) for k in (0, 300)
    ]
    scores = logits(len(settings), 1000, seed=3)
    check_cuts(scores / 10, settings)
    check_cuts(scores.bfloat16().float(), settings)


def test_the_repetition_penalty_is_that_of_transformers_over_prompt_and_answer() -> None:
    scores = logits(seed=4)
    answer = tuple(scores.topk(3).indices[0].tolist())
    seen: Any = torch.tensor([[*PROMPT, *answer]])
    theirs: Any = RepetitionPenaltyLogitsProcessor(1.8)
    expected = theirs(seen, scores.clone()).argmax().item()
    sampling = SamplingParams(temperature=0, repetition_penalty=1.8)
    assert pick(scores, sampling, generated=answer) == [expected]
    assert expected != scores.argmax().item()


def test_frequency_and_presence_penalties_count_the_answer_and_not_the_prompt() -> None:
    scores = torch.zeros(1, 10)
    scores[0, 3], scores[0, 7], scores[0, 9] = 1.0, 1.5, 1.2
    twice = (7, 7)
    assert pick(scores, SamplingParams(temperature=0, frequency_penalty=0.2), generated=twice) == [9]
    assert pick(scores, SamplingParams(temperature=0, frequency_penalty=0.1), generated=twice) == [7]
    assert pick(scores, SamplingParams(temperature=0, presence_penalty=0.4), generated=twice) == [9]
    assert pick(scores, SamplingParams(temperature=0, presence_penalty=0.2), generated=twice) == [7]


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 9e-6])
def test_the_coldest_answers_are_greedy(temperature: float) -> None:
    scores = logits(5)
    assert pick(scores, *[SamplingParams(temperature=temperature)] * 5) == scores.argmax(-1).tolist()


@pytest.mark.parametrize("sampling", [*SETTINGS, SamplingParams(temperature=1.5, top_p=1.0)])
def test_what_is_drawn_follows_the_distribution(sampling: SamplingParams) -> None:
    """Pearson's chi-square test of 20000 draws, at one in a thousand."""
    scores, draws = logits(size=12, seed=5), 20_000
    expected = {id_: p * draws for id_, p in enumerate(by_transformers(scores, [sampling]).softmax(-1)[0].tolist())}
    seeded = SamplingParams(**{**sampling.__dict__, "seed": 7})
    one = sequence(seeded)
    drawn = Counter(chosen(c) for _ in range(20) for c in sample(scores.expand(1000, -1), [one] * 1000))
    assert all(expected[id_] > 0 for id_ in drawn)
    # Ids of which fewer than five are expected make one class.
    common = [id_ for id_, n in expected.items() if n >= 5]
    classes = [(drawn[id_], expected[id_]) for id_ in common]
    rest = draws - sum(n for n, _ in classes), draws - sum(n for _, n in classes)
    classes += [rest] if rest[1] > 1e-6 else []
    chi_square = sum((n - e) ** 2 / e for n, e in classes)
    assert chi_square < _critical(len(classes) - 1)


def test_what_is_drawn_of_flat_scores_is_all_that_top_p_leaves_and_no_more() -> None:
    """Of 512 equals, top-p leaves the later half."""
    one = sequence(SamplingParams(temperature=1.0, top_p=0.5, seed=3))
    drawn = Counter(chosen(choice) for choice in sample(torch.zeros(4000, 512), [one] * 4000))
    assert min(drawn) >= 256
    assert sum((drawn[id_] - 4000 / 256) ** 2 * 256 / 4000 for id_ in range(256, 512)) < _critical(255)


def test_the_rarest_tokens_of_a_large_vocabulary_are_drawn_as_often_as_they_should_be() -> None:
    scores = torch.zeros(50, 100_000)
    scores[:, 50_000] = math.log(1e5)
    one = sequence(SamplingParams(temperature=1.0, top_p=1.0, seed=5))
    drawn = [chosen(choice) for _ in range(20) for choice in sample(scores, [one] * 50)]
    rare = [id_ for id_ in drawn if id_ != 50_000]
    assert 420 < len(rare) < 580
    assert 200 < sum(id_ > 50_000 for id_ in rare) < 300


def _critical(degrees: int) -> float:
    """The 99.9 % quantile of chi-square, by Wilson and Hilferty's approximation (1931)."""
    if degrees == 0:
        return 1e-9
    return degrees * float(1 - 2 / (9 * degrees) + 3.0902 * math.sqrt(2 / (9 * degrees))) ** 3


def test_a_seeded_answer_does_not_depend_on_its_neighbours() -> None:
    rows, seeded = logits(40, 200), SamplingParams(temperature=1.2, top_p=0.9, seed=11)
    lone, among = sequence(seeded), sequence(seeded)
    others = [
        sequence(sampling) for sampling in [*SETTINGS, SamplingParams(temperature=0), SamplingParams(1, 0.8, 1.0)]
    ]
    for number, row in enumerate(rows):
        alone = chosen(sample(row.unsqueeze(0), [lone])[0])
        batch = [*others[: number % 9], among, *others[number % 9 :]]
        assert chosen(sample(row.expand(len(batch), -1), batch)[number % 9]) == alone
    assert lone.random.getstate() == among.random.getstate()


def test_other_seeds_give_other_answers_and_none_gives_chance() -> None:
    rows = [row.unsqueeze(0) for row in logits(30, 200)]

    def answer(seed: int | None) -> list[int]:
        one = sequence(SamplingParams(temperature=1.5, top_p=1.0, seed=seed))
        return [chosen(sample(row, [one])[0]) for row in rows]

    assert answer(1) == answer(1)
    assert len({tuple(answer(seed)) for seed in (1, 2, None, None)}) == 4


def test_log_probabilities_are_the_models_own_before_any_penalty_or_cut() -> None:
    scores = logits()
    sampling = SamplingParams(temperature=0.3, top_k=1, logprobs=3, repetition_penalty=2.0)
    (choice,) = sample(scores, [sequence(sampling)])
    assert isinstance(choice, SampledToken)
    expected = scores[0].log_softmax(-1)
    assert choice.logprob == expected[choice.id].item()
    values, ids = expected.topk(3)
    assert choice.top_logprobs == tuple(zip(ids.tolist(), values.tolist(), strict=True))
    (bare,) = sample(scores, [sequence(SamplingParams(logprobs=0))])
    assert isinstance(bare, SampledToken)
    assert bare.top_logprobs == ()
    assert bare.logprob is not None


def test_a_mask_says_what_may_come_after_what_was_said() -> None:
    def digits(generated: tuple[int, ...]) -> object:
        return [20, 21] if generated == (4, 4) else torch.arange(100) == 50

    for temperature in (0.0, 5.0):
        sampling = SamplingParams(temperature=temperature, top_p=1.0, mask=digits)
        assert pick(logits(), sampling, generated=(4, 4))[0] in (20, 21)
        assert pick(logits(), sampling, generated=(4,)) == [50]


def test_one_row_that_fails_hurts_no_other() -> None:
    def broken(_: tuple[int, ...]) -> object:
        raise KeyError("no such state")

    scores = logits(6)
    scores[1, 30] = math.nan
    scores[2] = -math.inf
    drawn = SamplingParams(temperature=1.0, seed=3)
    rows = [drawn, drawn, SamplingParams(temperature=0)]
    rows += [SamplingParams(mask=broken), SamplingParams(mask=lambda _: []), SamplingParams(mask=lambda _: [1000])]
    first, *failed = sample(scores, [sequence(sampling) for sampling in rows])
    assert chosen(first) == pick(scores[:1], drawn)[0]
    assert [type(error) for error in failed] == [ModelError, ModelError, KeyError, RequestError, IndexError]


def test_an_id_beyond_the_logits_is_not_penalised() -> None:
    assert pick(logits(size=6), SamplingParams(temperature=0, repetition_penalty=1.5), generated=(5,))


def test_a_bias_is_added_to_the_logits() -> None:
    scores = torch.zeros(1, 10)
    scores[0, 4] = 1.0
    assert pick(scores, SamplingParams(temperature=0, logit_bias=((7, 1.5),))) == [7]
    assert pick(scores, SamplingParams(temperature=0, logit_bias=((4, -0.5), (7, 0.4)))) == [4]


def test_a_bias_for_what_is_no_id_fails_its_own_row() -> None:
    rows = [sequence(SamplingParams(temperature=0, logit_bias=((10, 1.0),))), sequence(SamplingParams(temperature=0))]
    failed, fine = sample(torch.zeros(2, 10), rows)
    assert isinstance(failed, RequestError)
    assert isinstance(fine, SampledToken)


@pytest.mark.parametrize("size", [6, 12])
def test_a_mask_may_be_shorter_or_longer_than_the_logits(size: int) -> None:
    mask = torch.arange(size) == 3
    scores = torch.zeros(1, 10)
    scores[0, 8] = 9.0
    assert pick(scores, SamplingParams(temperature=0, mask=lambda _: mask)) == [3]
