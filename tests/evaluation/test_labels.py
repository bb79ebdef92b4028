import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from quintet.evaluation.labels import score_labels
from quintet.evaluation.results import ClassScores

LABELS = ["urgent", "routine", "spam"]
NONE = "neither of them"


def test_scores_by_hand() -> None:
    references = ["urgent", "urgent", "urgent", "routine", "routine"]
    answers = ["urgent", "urgent", "routine", "routine", "I do not know"]
    found = score_labels(answers, references, ["urgent", "routine"])
    assert found.confusion == ((2, 1, 0), (0, 1, 1))
    # Urgent: 2 of 2 said, 2 of 3 there are, F1 = 2 * 2/(2 + 3). Routine: 1 of 2 said, 1 of 2, F1 = 1/2.
    urgent, routine = found.classes
    assert (urgent.precision, urgent.recall, urgent.f1) == pytest.approx((1.0, 2 / 3, 4 / 5))
    assert (routine.precision, routine.recall, routine.f1) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert [(one.label, one.support) for one in found.classes] == [("urgent", 3), ("routine", 2)]
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.macro_f1 == pytest.approx((4 / 5 + 1 / 2) / 2)
    assert found.no_label == pytest.approx(1 / 5)


@given(st.lists(st.tuples(st.sampled_from([*LABELS, NONE]), st.sampled_from(LABELS)), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    answers, references = [answer for answer, _ in pairs], [reference for _, reference in pairs]
    found = score_labels(answers, references, LABELS)
    asked = {"labels": LABELS, "zero_division": 0}
    assert found.macro_f1 == pytest.approx(f1_score(references, answers, average="macro", **asked))
    assert found.accuracy == pytest.approx(accuracy_score(references, answers))
    assert found.no_label == pytest.approx(answers.count(NONE) / len(answers))
    assert [list(row) for row in found.confusion] == confusion_matrix(
        references, answers, labels=[*LABELS, NONE]
    ).tolist()[:-1]
    for score, name in ((precision_score, "precision"), (recall_score, "recall"), (f1_score, "f1")):
        theirs = score(references, answers, average=None, **asked)
        assert [getattr(one, name) for one in found.classes] == pytest.approx(theirs.tolist())


def test_a_label_without_items_counts_as_0_in_the_macro_f1() -> None:
    found = score_labels(["urgent"], ["urgent"], LABELS)
    assert found.classes[1] == ClassScores("routine", precision=0.0, recall=0.0, f1=0.0, support=0)
    assert found.macro_f1 == pytest.approx(1 / 3)


def test_a_single_label_is_scored() -> None:
    found = score_labels(["spam", "ham"], ["spam", "spam"], ["spam"])
    assert found.confusion == ((1, 1),)
    assert found.accuracy == pytest.approx(1 / 2)


def test_scores_are_plain_numbers() -> None:
    found = score_labels(["urgent"], ["urgent"], LABELS)
    assert {type(value) for value in (found.accuracy, found.macro_f1, found.no_label)} == {float}
    assert {type(count) for row in found.confusion for count in row} == {int}
    assert [type(one.support) for one in found.classes] == [int] * 3


@pytest.mark.parametrize(
    "answer",
    [
        "urgent",
        "  Urgent\n",
        "URGENT.",
        '"urgent"',
        "“Urgent.”",
        "«urgent»",
        "**urgent**",
        "`urgent`",
        "(urgent)",
        "「urgent」。",
    ],
)
def test_white_space_quotes_punctuation_and_case_do_not_count(answer: str) -> None:
    assert score_labels([answer], ["urgent"], LABELS).accuracy == 1.0


@pytest.mark.parametrize("answer", ["", "...", "It is urgent", "urgent or routine", "urg ent", "urgently", "-urgent"])
def test_any_other_answer_is_no_label(answer: str) -> None:
    found = score_labels([answer], ["urgent"], LABELS)
    assert found.confusion[0] == (0, 0, 0, 1)
    assert found.no_label == 1.0


def test_a_label_keeps_the_signs_that_tell_it_from_another() -> None:
    labels = ["C", "C++", "C#", "A-", "A+"]
    assert score_labels(["c++.", "C#", "c", "a+", "A-"], ["C++", "C#", "C", "A+", "A-"], labels).accuracy == 1.0


def test_a_label_may_itself_be_in_capitals_and_quotes() -> None:
    found = score_labels(["needs review"], ["'Needs Review'"], ["'Needs Review'", "Done"])
    assert found.accuracy == 1.0
    assert found.classes[0].label == "'Needs Review'"


def test_a_reference_is_read_as_an_answer_is() -> None:
    assert score_labels(["urgent"], ["Urgent."], LABELS).accuracy == 1.0


def test_a_reference_that_is_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match="one of urgent, routine, spam as the reference of item 1, found 'later'"):
        score_labels(["urgent", "urgent"], ["urgent", "later"], LABELS)


@pytest.mark.parametrize(("answers", "references"), [([], []), (["urgent"], []), ([], ["urgent"])])
def test_each_answer_wants_one_reference(answers: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match=f"found {len(answers)} answers and {len(references)} references"):
        score_labels(answers, references, LABELS)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "expected at least one label, found none"),
        (["urgent", "Urgent."], "labels 'urgent' and 'Urgent.' read alike"),
        (["urgent", "?"], "label '\\?' has nothing but punctuation"),
    ],
)
def test_labels_that_could_not_be_told_apart_are_refused(labels: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        score_labels(["urgent"], ["urgent"], labels)
