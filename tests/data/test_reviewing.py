"""A reviewer stands between what people said and what is trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from quintet.data.reviewing import read_review, review_row
from quintet.errors import DataError
from quintet.messages import Message
from quintet.registry.feedback import Answered, Opinion, Rated

PROMPT = [{"role": "user", "content": "When is pay day?"}]


def row(opinion: Opinion, **changed: Any) -> dict[str, Any]:
    answered = Answered("r1", "hr", 3, "d" * 64)
    return review_row(Rated(answered, (Message("user", "When is pay day?"),), "On the 1st.", opinion)) | changed


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "hr.review.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def test_the_reviewer_sees_what_was_asked_said_and_thought() -> None:
    assert row(Opinion(False, "On the 27th.", "Wrong day")) == {
        "accepted": None,
        "prompt": PROMPT,
        "answer": "On the 27th.",
        "given": "On the 1st.",
        "rating": "down",
        "comment": "Wrong day",
        "model": "hr@3",
        "request_id": "r1",
    }


@pytest.mark.parametrize(
    ("opinion", "offered"),
    [(Opinion(True), "On the 1st."), (Opinion(True, "The 1st!"), "The 1st!"), (Opinion(False), "")],
)
def test_what_is_offered_is_the_better_answer_or_one_that_was_liked(opinion: Opinion, offered: str) -> None:
    assert row(opinion)["answer"] == offered


def test_a_better_answer_is_learnt_and_preferred_to_the_one_given(tmp_path: Path) -> None:
    reviewed = read_review(write(tmp_path, row(Opinion(False, "On the 27th."), accepted=True)))
    assert reviewed.rows == [{"messages": [*PROMPT, {"role": "assistant", "content": "On the 27th."}]}]
    assert reviewed.pairs == [{"prompt": PROMPT, "chosen": "On the 27th.", "rejected": "On the 1st."}]


def test_an_answer_that_was_good_as_it_was_is_learnt_and_preferred_to_nothing(tmp_path: Path) -> None:
    reviewed = read_review(write(tmp_path, row(Opinion(True), accepted=True)))
    assert len(reviewed.rows) == 1
    assert reviewed.pairs == []


def test_only_what_is_accepted_is_taken(tmp_path: Path) -> None:
    rows = [row(Opinion(True), accepted=accepted) for accepted in (True, False, None)]
    reviewed = read_review(write(tmp_path, *rows))
    assert (len(reviewed.rows), reviewed.left_out) == (1, 2)


def test_a_file_that_nobody_has_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has 'accepted': true"):
        read_review(write(tmp_path, row(Opinion(True))))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answer": " "}, "field 'answer' is empty"),
        ({"accepted": "yes"}, "field 'accepted': expected true, false or null, found 'yes'"),
        ({"prompt": "When?"}, "field 'prompt': expected the turns"),
        ({"prompt": []}, "user"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_its_line(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, row(Opinion(True), accepted=True), row(Opinion(True), accepted=True) | changed)
    with pytest.raises(DataError, match=message) as caught:
        read_review(file)
    assert f"{file}:2: " in str(caught.value)
