"""What is measured of a router, checked by hand."""

import numpy as np
import pytest
from scipy.special import logit

from quintet.router.measuring import _Scored, calibration_error, measure_router
from quintet.router.questions import LabelledQuestion, Questions
from quintet.router.router import Router

GENERAL = [LabelledQuestion("Why is the sky blue?", None), LabelledQuestion("How does annual leave work?", None)]


def test_every_question_is_counted_where_it_was_taken_to_belong(router: Router, questions: Questions) -> None:
    scores = measure_router(router, questions.held_out, GENERAL)
    assert sum(map(sum, scores.confusion)) == scores.questions == 42
    assert scores.accuracy == sum(scores.confusion[i][i] for i in range(3)) / 42
    assert (scores.nobodys, scores.departments) == (2, router.departments)


def test_from_no_threshold_on_all_is_sent_and_the_higher_the_less(router: Router, questions: Questions) -> None:
    scores = measure_router(router, questions.held_out, GENERAL)
    assert (scores.curve[0].sent, scores.curve[0].nobodys) == (1, 1)
    sent = [at.sent for at in scores.curve]
    assert sent == sorted(sent, reverse=True)
    assert scores.chosen.nobodys == 0.5


def test_the_calibration_error_is_how_far_it_is_from_being_right_as_often_as_it_is_sure() -> None:
    # 80% sure four times and right three times, all of one department.
    scored = _Scored(np.array([0, 0, 0, 1]), np.stack([np.full(4, logit(0.8)), np.full(4, -40.0)], 1))
    # The department of the one that is wrong counts as much as that of the three: (0.2 * 3 * 2/3 - 0.8 * 2) / 4.
    assert calibration_error(scored) == pytest.approx(0.3)
