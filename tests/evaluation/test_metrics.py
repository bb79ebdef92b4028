from math import exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from quintet.evaluation.metrics import (
    answer_metrics,
    chrf,
    corpus_bleu,
    exact_match,
    normalise,
    rouge_l,
    token_f1,
    token_overlap,
)

# Few different words, so that texts share some; any text, so that nothing is left out.
WORDS = st.sampled_from(
    ["the", "a", "leave", "days", "26", "Days!", "für", "İstanbul", "\u212aelvin", "日本語", "-", "_"]
)
TEXTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40)
unhurried = settings(deadline=None)
"""For a machine that has other work: an example may take as long as it does."""


def test_case_punctuation_and_articles_do_not_count() -> None:
    assert normalise("The cat, a Cat & an AUNT!") == ["cat", "cat", "aunt"]


def test_an_article_within_a_word_stays() -> None:
    assert normalise("Theatre an anthem") == ["theatre", "anthem"]


@pytest.mark.parametrize(
    ("answer", "reference", "precision", "recall", "f1"),
    [
        ("You get 26 days", "You get 26 days.", 1.0, 1.0, 1.0),
        ("26 days", "You get 26 days", 2 / 2, 2 / 4, 2 * (2 / 2) * (2 / 4) / (2 / 2 + 2 / 4)),
        ("26 days of leave", "You get 26 days", 2 / 4, 2 / 4, 0.5),
        ("days days", "days", 1 / 2, 1 / 1, 2 * 0.5 * 1 / 1.5),
        ("days 26", "26 days", 1.0, 1.0, 1.0),
        ("nothing alike", "You get 26 days", 0.0, 0.0, 0.0),
        ("", "You get 26 days", 0.0, 0.0, 0.0),
        ("You get 26 days", "", 0.0, 0.0, 0.0),
        ("", "the", 1.0, 1.0, 1.0),
    ],
)
def test_token_overlap_by_hand(answer: str, reference: str, precision: float, recall: float, f1: float) -> None:
    overlap = token_overlap(answer, reference)
    assert (overlap.precision, overlap.recall, overlap.f1) == pytest.approx((precision, recall, f1))


@given(TEXTS, TEXTS)
@unhurried
def test_precision_and_recall_change_places_with_answer_and_reference(one: str, other: str) -> None:
    there, back = token_overlap(one, other), token_overlap(other, one)
    assert (there.precision, there.recall, there.f1) == (back.recall, back.precision, back.f1)


@given(TEXTS, TEXTS)
@unhurried
def test_f1_is_the_harmonic_mean_of_precision_and_recall(answer: str, reference: str) -> None:
    overlap = token_overlap(answer, reference)
    both = overlap.precision + overlap.recall
    assert overlap.f1 == pytest.approx(2 * overlap.precision * overlap.recall / both if both else 0.0)


@given(TEXTS, TEXTS)
@unhurried
def test_token_f1_is_that_of_the_overlap(answer: str, reference: str) -> None:
    assert token_f1(answer, reference) == token_overlap(answer, reference).f1


def test_exact_match_needs_the_same_words_in_the_same_order() -> None:
    assert exact_match("the 26 days", "26 days!") == 1.0
    assert exact_match("days 26", "26 days") == 0.0


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        # Lin 2004, section 3.1: the longest they share, in order, is "police the gunman", then "the gunman".
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        # Two of two words, in two of four: 2 * 1 * 0.5 / 1.5.
        ("26 days", "You get 26 days", 2 / 3),
        # The order counts: one of two, whichever.
        ("days 26", "26 days", 1 / 2),
        # A word said twice is found once: 2 * 1 / (2 + 1).
        ("days days", "days", 2 / 3),
        ("nothing alike", "26 days", 0.0),
        ("", "26 days", 0.0),
        ("26 days", "", 0.0),
        ("", "", 0.0),
    ],
)
def test_rouge_l_by_hand(answer: str, reference: str, score: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(score)


@given(TEXTS, TEXTS)
@settings(unhurried, max_examples=300)
def test_rouge_l_is_that_of_the_rouge_score_package(answer: str, reference: str) -> None:
    theirs = RougeScorer(["rougeL"], use_stemmer=False).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("abc", "abc", 100.0),
        # One character: 2 of 3; two: 1 of 2; three: 0 of 1; longer n-grams there are none. P = R = F.
        ("abc", "abd", 100 * (2 / 3 + 1 / 2 + 0 / 1) / 3),
        # P = 1 and R = (2/4 + 1/3) / 2 = 5/12: 5PR / (4P + R) = (25/12) / (53/12). Three and more: not in the answer.
        ("ab", "abcd", 100 * 25 / 53),
        # The other way round, P = 5/12 and R = 1: (25/12) / (20/12 + 1) = 25/32. Recall weighs more.
        ("abcd", "ab", 100 * 25 / 32),
        ("a b", "ab", 100.0),
        ("AB", "ab", 0.0),
        ("", "ab", 0.0),
        ("ab", "", 0.0),
        ("", "", 0.0),
    ],
)
def test_chrf_by_hand(answer: str, reference: str, score: float) -> None:
    assert chrf(answer, reference) == pytest.approx(score)


@given(TEXTS, TEXTS)
@unhurried
def test_chrf_is_that_of_sacrebleu(answer: str, reference: str) -> None:
    assert chrf(answer, reference) == CHRF().sentence_score(answer, [reference]).score


def test_corpus_bleu_by_hand() -> None:
    # Of the answer's n-grams the reference has 5 of 6, 3 of 5, 2 of 4 and 1 of 3; both are six words long.
    score, _ = corpus_bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4))


def test_corpus_bleu_punishes_answers_that_are_too_short() -> None:
    # Nothing in it is wrong, but it has four words of six: exp(1 - 6/4).
    score, _ = corpus_bleu(["the cat sat on"], ["the cat sat on the mat"])
    assert score == pytest.approx(100 * exp(1 - 6 / 4))


def test_corpus_bleu_counts_over_all_answers_before_it_divides() -> None:
    # One word of 1 + 4 is wrong: 4 of 5, then 3 of 3, 2 of 2 and 1 of 1. The mean of the two would be 50.
    score, _ = corpus_bleu(["no", "the cat sat down"], ["yes", "the cat sat down"])
    assert score == pytest.approx(100 * (4 / 5) ** (1 / 4))


def test_corpus_bleu_of_answers_under_four_words_is_0() -> None:
    assert corpus_bleu(["26 days", "yes"], ["26 days", "yes"])[0] == 0.0


def test_corpus_bleu_of_right_answers_is_100_and_no_more() -> None:
    right = ["You get 26 days of leave each year."]
    assert corpus_bleu(right, right)[0] == pytest.approx(100.0)
    assert corpus_bleu(right, right)[0] <= 100.0


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
@unhurried
def test_corpus_bleu_and_its_signature_are_those_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    answers, references = [answer for answer, _ in pairs], [reference for _, reference in pairs]
    theirs = BLEU()
    score, signature = corpus_bleu(answers, references)
    assert score == pytest.approx(theirs.corpus_score(answers, [references]).score)
    assert signature == str(theirs.get_signature())


def test_a_signature_says_how_bleu_was_measured() -> None:
    _, signature = corpus_bleu(["26 days"], ["26 days"])
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")


@pytest.mark.parametrize(("answers", "references"), [([], []), (["26 days"], []), (["26 days"], ["26 days", "Yes"])])
def test_corpus_bleu_wants_one_reference_an_answer(answers: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match=f"found {len(answers)} answers and {len(references)} references"):
        corpus_bleu(answers, references)


def test_an_answer_has_every_metric_by_name() -> None:
    assert answer_metrics("26 days", "You get 26 days") == {
        "exact_match": 0.0,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "rouge_l": pytest.approx(2 / 3),
        "chrf": chrf("26 days", "You get 26 days"),
    }
