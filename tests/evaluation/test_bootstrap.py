import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.evaluation.bootstrap import outcomes, paired_interval
from quintet.evaluation.results import Interval, Outcomes

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


def test_the_mean_is_that_of_the_differences() -> None:
    # (0.5 - 0.25) + (1 - 0.5) + (0 - 0.5) = 0.25, over three items.
    assert paired_interval([0.5, 1.0, 0.0], [0.25, 0.5, 0.5], seed=0).mean == pytest.approx(0.25 / 3)


def test_an_interval_by_hand() -> None:
    # One item of four was gained, so the gains in a resample are binomial, four draws of 1/4. None: (3/4)^4 = 32%,
    # so low is 0. Three or four: (12 + 1)/256 = 5.1%, four: 1/256 = 0.4%; 2.5% lies between, so high is three of four.
    assert paired_interval([1, 0, 0, 0], [0, 0, 0, 0], seed=0) == Interval(mean=0.25, low=0.0, high=0.75)


def test_an_interval_is_near_that_of_all_resamples_there_are() -> None:
    differences = [0.9, -0.4, 0.35, 0.2, 0.05, -0.1]
    every_mean = [np.mean(drawn) for drawn in product(differences, repeat=len(differences))]  # 46,656
    low, high = np.quantile(every_mean, [0.025, 0.975])
    found = paired_interval(differences, [0.0] * len(differences), seed=1, resamples=50_000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_an_interval_of_many_items_is_as_wide_as_the_normal_one() -> None:
    differences = np.random.default_rng(2).normal(0.1, 0.3, size=2_000)
    found = paired_interval(differences.tolist(), [0.0] * 2_000, seed=2, resamples=4_000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * differences.std() / 2_000**0.5, rel=0.05)


def test_the_interval_holds_the_true_mean_in_about_95_of_100_trials() -> None:
    rng = np.random.default_rng(3)
    held, trials, true_mean = 0, 300, 0.1
    for seed in range(trials):
        items = rng.uniform(0, 1, size=60)
        found = paired_interval(
            (items + rng.normal(true_mean, 0.3, size=60)).tolist(), items.tolist(), seed=seed, resamples=1_000
        )
        held += found.low <= true_mean <= found.high
    # 95% of 300 is 285 with a standard deviation of 3.8; of 60 items the interval is a little narrow, hence the room.
    assert 273 <= held <= 295


def test_pairing_tells_a_small_steady_gain_from_items_that_differ_widely() -> None:
    other = np.random.default_rng(4).uniform(0, 1, size=50)
    expert = other + 0.01
    paired = paired_interval(expert.tolist(), other.tolist(), seed=4)
    assert (paired.low, paired.high) == pytest.approx((0.01, 0.01))
    # The same scores, each beside another item's: the gain is the same and drowns.
    mixed = paired_interval(expert.tolist(), np.roll(other, 1).tolist(), seed=4)
    assert mixed.mean == pytest.approx(0.01)
    assert mixed.low < -0.05 < 0.05 < mixed.high


@given(SCORES)
@settings(deadline=None, max_examples=50)
def test_the_other_way_round_it_is_the_same_interval_mirrored(scores: list[tuple[float, float]]) -> None:
    expert, other = [mine for mine, _ in scores], [theirs for _, theirs in scores]
    there = paired_interval(expert, other, seed=5, resamples=200)
    back = paired_interval(other, expert, seed=5, resamples=200)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))


@given(SCORES, st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_one_seed_gives_one_interval(scores: list[tuple[float, float]], seed: int) -> None:
    expert, other = [mine for mine, _ in scores], [theirs for _, theirs in scores]
    assert paired_interval(expert, other, seed=seed, resamples=50) == paired_interval(
        expert, other, seed=seed, resamples=50
    )


def test_another_seed_draws_otherwise() -> None:
    scores = np.random.default_rng(6).uniform(0, 1, size=30).tolist()
    assert len({paired_interval(scores, [0.0] * 30, seed=seed, resamples=100).low for seed in range(5)}) > 1


def test_the_same_scores_leave_no_doubt() -> None:
    assert paired_interval([0.1, 0.7], [0.1, 0.7], seed=0) == Interval(0.0, 0.0, 0.0)


def test_one_item_is_its_own_interval() -> None:
    assert paired_interval([0.75], [0.5], seed=0) == Interval(0.25, 0.25, 0.25)


def test_memory_stays_bounded_for_many_items() -> None:
    expert, other = np.random.default_rng(7).uniform(0, 1, size=(2, 100_000)).tolist()
    tracemalloc.start()
    paired_interval(expert, other, seed=7, resamples=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6  # all at once it would be 100 MB


@pytest.mark.parametrize(("expert", "other"), [([], []), ([1.0], []), ([1.0], [0.5, 0.25])])
def test_an_interval_wants_the_scores_of_both_on_the_same_items(expert: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match=f"at least one, found {len(expert)} of the expert and {len(other)} of the"):
        paired_interval(expert, other, seed=0)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_an_interval_wants_finite_scores(score: float) -> None:
    with pytest.raises(ValueError, match=rf"expected finite scores, found 0\.5 and {score} at item 1"):
        paired_interval([0.5, 0.5], [0.5, score], seed=0)


def test_an_interval_wants_a_resample() -> None:
    with pytest.raises(ValueError, match="expected at least one resample, found 0"):
        paired_interval([0.5], [0.5], seed=0, resamples=0)


def test_outcomes_count_items_above_equal_and_below() -> None:
    assert outcomes([1.0, 0.5, 0.5, 0.0, 0.2], [0.0, 0.5, 0.25, 0.1, 0.1]) == Outcomes(wins=3, ties=1, losses=1)


@given(SCORES)
def test_every_item_has_one_outcome(scores: list[tuple[float, float]]) -> None:
    found = outcomes([mine for mine, _ in scores], [theirs for _, theirs in scores])
    back = outcomes([theirs for _, theirs in scores], [mine for mine, _ in scores])
    assert found.wins + found.ties + found.losses == len(scores)
    assert (found.wins, found.ties, found.losses) == (back.losses, back.ties, back.wins)


def test_outcomes_want_as_many_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        outcomes([1.0, 0.5], [1.0])
