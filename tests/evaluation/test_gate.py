"""Each rule of the gate lets through and blocks by its own number, and says both."""

from dataclasses import replace
from typing import Any

import pytest

from quintet.config import GateConfig
from quintet.evaluation.gate import judge
from quintet.evaluation.results import BASE, EXPERT, LIVE, Comparison, Evaluation, Interval, Outcomes, Verdict
from tests.evaluation.evaluations import evaluation

NONE = GateConfig(
    questions=None, better_than_base=False, specific=False, live_margin=None, ended=None, general_perplexity=None
)


def measured(
    base: tuple[float, float] = (0.1, 0.3),
    live: float | None = None,
    ended: float = 1.0,
    general: float = 10.0,
    own: tuple[float, float] = (0.3, 0.4),
) -> Evaluation:
    """Return an evaluation with this interval against the base, mean against live, share ended, and perplexity."""
    comparisons = {BASE: Comparison({"f1": Interval(sum(base) / 2, *base)}, Outcomes(3, 0, 0))}
    if live is not None:
        comparisons[LIVE] = Comparison({"f1": Interval(live, live - 0.1, live + 0.1)}, Outcomes(1, 1, 1))
    scores = {
        key: {"f1": 0.5, "ended": ended, "general_perplexity": general if key == EXPERT else 10.0}
        for key in (BASE, EXPERT, LIVE)
    }
    return replace(evaluation(), scores=scores, comparisons=comparisons, specificity=Interval(sum(own) / 2, *own))


def only(found: Evaluation, **rules: Any) -> Verdict:
    (verdict,) = judge(found, NONE.model_copy(update=rules))
    return verdict


@pytest.mark.parametrize(("interval", "passes"), [((0.001, 0.2), True), ((0.0, 0.2), False), ((-0.01, 0.5), False)])
def test_better_than_the_base_means_the_whole_interval(interval: tuple[float, float], passes: bool) -> None:
    verdict = only(measured(base=interval), better_than_base=True)
    assert (verdict.passed, verdict.found, verdict.limit) == (passes, interval[0], 0.0)
    assert f"{interval[0]:+.3f} to {interval[1]:+.3f}" in verdict.said


@pytest.mark.parametrize(("difference", "passes"), [(0.05, True), (-0.02, True), (-0.021, False)])
def test_the_live_release_may_be_undercut_by_the_margin_and_no_more(difference: float, passes: bool) -> None:
    verdict = only(measured(live=difference), live_margin=0.02)
    assert (verdict.passed, verdict.found, verdict.limit) == (passes, difference, -0.02)
    assert f"{difference:+.3f}" in verdict.said
    assert "-0.020" in verdict.said


def test_with_nothing_live_there_is_nothing_to_undercut() -> None:
    assert judge(measured(live=None), NONE.model_copy(update={"live_margin": 0.0})) == ()


@pytest.mark.parametrize(("ended", "passes"), [(1.0, True), (0.99, True), (0.98, False)])
def test_answers_must_end_their_turn(ended: float, passes: bool) -> None:
    verdict = only(measured(ended=ended), ended=0.99)
    assert (verdict.passed, verdict.found, verdict.limit) == (passes, ended, 0.99)


@pytest.mark.parametrize(("perplexity", "passes"), [(8.0, True), (12.0, True), (12.1, False)])
def test_general_answers_may_not_become_much_less_likely(perplexity: float, passes: bool) -> None:
    verdict = only(measured(general=perplexity), general_perplexity=1.2)
    assert (verdict.passed, verdict.limit) == (passes, 1.2)
    assert verdict.found == pytest.approx(perplexity / 10)
    assert f"{perplexity:.1f}, the base's 10.0" in verdict.said


@pytest.mark.parametrize(("interval", "passes"), [((0.01, 0.2), True), ((-0.01, 0.2), False)])
def test_answers_must_fit_their_own_question(interval: tuple[float, float], passes: bool) -> None:
    verdict = only(measured(own=interval), specific=True)
    assert (verdict.passed, verdict.found, verdict.limit) == (passes, interval[0], 0.0)


@pytest.mark.parametrize(("least", "passes"), [(3, True), (4, False)])
def test_too_few_questions_decide_nothing(least: int, passes: bool) -> None:
    verdict = only(measured(), questions=least)
    assert (verdict.passed, verdict.found, verdict.limit) == (passes, 3, least)


def test_by_default_all_rules_apply() -> None:
    rules = [verdict.rule for verdict in judge(measured(live=0.1), GateConfig())]
    assert rules == ["questions", "better_than_base", "specific", "live_margin", "ended", "general_perplexity"]
