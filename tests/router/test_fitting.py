"""What is learnt: equal weights, true probabilities, a threshold that keeps its promise."""

import math

import numpy as np
import pytest
from scipy.special import logit

from quintet.router.fitting import NEVER, calibrate, find_threshold, fit_router, probabilities, weigh
from quintet.router.questions import Questions
from quintet.router.router import Router

ONE_EACH = np.array([0, 0, 1, -1])


def _scores(*sure: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Return scores of two departments under which the first has these probabilities, and the second hardly any."""
    return np.stack([logit(np.array(sure)), np.full(len(sure), -40.0)], 1)


def test_questions_are_sent_where_their_words_were_learnt(router: Router) -> None:
    ranked = router.rank("Somebody asks how much annual leave there is", router.departments)
    assert ranked[0].department == "hr"
    assert router.is_sure(ranked[0])


@pytest.mark.parametrize("question", ["Why is the sky blue?", "", "?!", "Zebra xylophone"])
def test_what_is_nobodys_is_sent_to_none(router: Router, question: str) -> None:
    assert not router.is_sure(router.rank(question, router.departments)[0])


def test_a_department_that_is_alone_is_told_from_what_is_nobodys(questions: Questions) -> None:
    train, held_out = (
        [one for one in half if one.department in ("hr", None)] for half in (questions.train, questions.held_out)
    )
    router = fit_router(["hr"], Questions(train, held_out), 0.05)
    assert router.is_sure(router.rank("How does sick pay work here?", ["hr"])[0])
    assert not router.is_sure(router.rank("What is the capital of Japan?", ["hr"])[0])


def test_departments_count_the_same_however_many_questions_they_have() -> None:
    weights = weigh(ONE_EACH)
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 4 / 3, 4 / 3])


def test_likelihoods_and_that_of_nobody_add_up_to_one() -> None:
    found = probabilities(np.log(np.array([[1.0, 2.0]])))
    assert found[0].tolist() == pytest.approx([1 / 4, 2 / 4])


def test_scores_that_are_too_sure_are_calibrated_to_how_often_they_are_right() -> None:
    scores, labels = np.full((10, 1), 5.0), np.array([0] * 7 + [-1] * 3)
    slope, offset = calibrate(scores, labels, np.ones(10))
    # 7 of 10 were right, and each of the ten is doubted by 1 in 12.
    expected = (7 * 11 / 12 + 3 / 12) / 10
    assert probabilities(slope * scores + offset)[0, 0] == pytest.approx(expected, abs=0.001)


def test_scores_that_tell_all_apart_are_not_taken_for_certain() -> None:
    slope, offset = calibrate(np.array([[9.0], [9.0], [-9.0]]), np.array([0, 0, -1]), np.ones(3))
    assert probabilities(slope * np.array([[9.0]]) + offset)[0, 0] == pytest.approx(4 / 5, abs=0.001)


def test_the_threshold_is_the_lowest_that_keeps_the_share_of_wrong_ones() -> None:
    scores, labels = _scores(0.9, 0.8, 0.7, 0.6, 0.5), np.array([0, 0, 1, 0, -1])
    assert find_threshold(scores, labels, np.ones(5), 0.25) == pytest.approx(0.6)
    assert find_threshold(scores, labels, np.ones(5), 0.1) == pytest.approx(0.8)


def test_what_is_equally_sure_is_sent_or_not_as_one() -> None:
    scores, labels = _scores(0.9, 0.6, 0.6), np.array([0, 0, 1])
    assert find_threshold(scores, labels, np.ones(3), 0.1) == pytest.approx(0.9)


def test_where_even_the_surest_is_wrong_nothing_is_sent() -> None:
    assert find_threshold(_scores(0.9, 0.6), np.array([1, 0]), np.ones(2), 0.1) == NEVER == math.inf
