import pytest

from quintet.evaluation.metrics import exact_match, normalise, token_f1


def test_case_punctuation_and_articles_do_not_count() -> None:
    assert normalise("The cat, a Cat & an AUNT!") == ["cat", "cat", "aunt"]


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("You get 26 days", "You get 26 days.", 1.0),
        ("26 days", "You get 26 days", 2 * (2 / 2) * (2 / 4) / (2 / 2 + 2 / 4)),
        ("26 days of leave", "You get 26 days", 0.5),
        ("days days", "days", 2 * 0.5 * 1 / 1.5),
        ("nothing alike", "You get 26 days", 0.0),
        ("", "You get 26 days", 0.0),
        ("", "the", 1.0),
    ],
)
def test_token_f1_by_hand(answer: str, reference: str, f1: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(f1)


def test_exact_match_needs_the_same_words_in_the_same_order() -> None:
    assert exact_match("the 26 days", "26 days!") == 1.0
    assert exact_match("days 26", "26 days") == 0.0
