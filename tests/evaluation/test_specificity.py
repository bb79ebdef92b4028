"""Answers are told from style: only those that fit their own question are above zero."""

import pytest

from quintet.evaluation.metrics import token_f1
from quintet.evaluation.specificity import specificity

REFERENCES = [f"You must ask desk {number} for {thing}." for number, thing in enumerate("bcdefghi")]


def test_the_right_answers_are_above_zero() -> None:
    found = specificity(REFERENCES, REFERENCES, token_f1, seed=1)
    assert found is not None
    # Of the seven words, all but the number and the thing are shared with any other reference.
    assert found.mean == pytest.approx(1 - 5 / 7)
    assert found.low > 0


def test_the_right_tone_with_the_wrong_facts_is_not() -> None:
    shuffled = [*REFERENCES[3:], *REFERENCES[:3]]
    found = specificity(shuffled, REFERENCES, token_f1, seed=1)
    assert found is not None
    assert found.mean <= 0


def test_phrasings_of_one_fact_are_not_others() -> None:
    found = specificity(["Yes.", "Yes.", "No."], ["Yes.", "Yes.", "No."], token_f1, seed=1)
    assert found is not None
    assert found.mean == 1


def test_with_one_reference_for_all_there_is_nothing_to_tell() -> None:
    assert specificity(["Yes.", "No."], ["Yes.", "Yes."], token_f1, seed=1) is None
