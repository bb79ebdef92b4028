import json
from collections import Counter
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.data.examples import Example, Place
from quintet.data.splits import load_split, split_by_group
from quintet.errors import DataError
from quintet.messages import Message


def example(question: str, answer: str, group: str, labels: tuple[tuple[str, str], ...] = ()) -> Example:
    messages = (Message("user", question), Message("assistant", answer))
    return Example(messages, group, Place(Path("hr.jsonl"), 1), labels=labels)


def examples(groups: int, paraphrases: int) -> list[Example]:
    return [example(f"{g}.{p}", str(g), str(g)) for g in range(groups) for p in range(paraphrases)]


def test_paraphrases_never_straddle_the_split() -> None:
    split = split_by_group(examples(40, 3), 0.2, seed=1)
    assert not {e.group for e in split.train} & {e.group for e in split.held_out}


def test_the_wanted_fraction_of_rows_is_held_out() -> None:
    split = split_by_group(examples(40, 3), 0.2, seed=1)
    assert (len(split.train), len(split.held_out)) == (96, 24)


def test_the_split_depends_on_the_seed_and_on_nothing_else() -> None:
    rows = examples(40, 3)
    assert split_by_group(rows, 0.2, 1) == split_by_group(rows, 0.2, 1)
    assert split_by_group(rows, 0.2, 1) != split_by_group(rows, 0.2, 2)


def test_a_large_group_is_not_held_out_whole() -> None:
    labels = [example(str(n), "no", "no") for n in range(90)]
    for seed in range(5):
        split = split_by_group(labels + examples(5, 2), 0.1, seed)
        assert len(split.held_out) == 10
        assert {e.group for e in split.train} >= {"no"}


def test_data_that_cannot_be_split_names_the_ways_out(project: Project) -> None:
    edit = project.root / "quintet.yaml"
    edit.write_text(edit.read_text().replace("    eval_data: departments/hr.eval.jsonl\n", ""))
    rows = "".join(json.dumps({"question": str(n), "answer": "no"}) + "\n" for n in range(30))
    (project.root / "departments" / "hr.jsonl").write_text(rows)
    with pytest.raises(DataError, match="30 rows in 1 groups cannot be split"):
        load_split(Project.load(project.root), "hr")


def test_rows_that_ask_the_same_are_never_split_apart_whatever_their_answers() -> None:
    rows = [example(f"{'HOW  ' if n % 2 else 'how '}is day {n // 2} counted?", str(n), str(n)) for n in range(80)]
    split = split_by_group(rows, 0.25, seed=1)
    asked = [{" ".join(e.question.lower().split()) for e in part} for part in (split.train, split.held_out)]
    assert len(split.held_out) == 20
    assert not asked[0] & asked[1]


def test_rows_that_ask_nearly_the_same_are_never_split_apart() -> None:
    long = "tell me please how many days of annual leave a new member of staff in clinic number {} gets every year"
    rows = [example(long.format(n) + mark, f"{n}{mark}", f"{n}{mark}") for n in range(40) for mark in ("", "?!")]
    split = split_by_group(rows, 0.25, seed=3)
    assert not {e.answer.strip("?!") for e in split.train} & {e.answer.strip("?!") for e in split.held_out}


def test_label_rows_are_held_out_class_by_class() -> None:
    labels = ["common"] * 160 + ["rare"] * 20 + ["single"]
    rows = [example(f"text {n}", label, f"text {n}", labels=(("class", label),)) for n, label in enumerate(labels)]
    split = split_by_group(rows, 0.1, seed=2)
    assert Counter(e.answer for e in split.held_out) == {"common": 16, "rare": 2}


def test_a_held_out_file_is_the_held_out_half(project: Project) -> None:
    split = load_split(project, "hr")
    assert (len(split.train), len(split.held_out)) == (12, 4)


def test_a_held_out_question_that_is_trained_on_is_refused(project: Project) -> None:
    file = project.root / "departments" / "hr.eval.jsonl"
    with file.open("a") as stream:
        stream.write(json.dumps({"question": "hello.  When is pay day?", "answer": "The 27th."}) + "\n")
    with pytest.raises(DataError, match=r"hr.eval.jsonl:5: this held-out question is also trained on, at .*hr.jsonl:4"):
        load_split(project, "hr")
