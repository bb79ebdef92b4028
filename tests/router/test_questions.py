"""Which rows the router learns from: those that their department answers itself."""

import json
from pathlib import Path

import pytest
import yaml

from quintet.config import Project
from quintet.data.examples import Example, Place
from quintet.messages import Message
from quintet.router.questions import Questions, asked
from quintet.router.training import train_router


def _project(root: Path, *names: str) -> Project:
    departments = {
        name: {"description": name, "data": f"{name}.jsonl", "eval_data": f"{name}.eval.jsonl"} for name in names
    }
    (root / "quintet.yaml").write_text(yaml.safe_dump({"departments": departments}))
    for name in names:
        _write(root / f"{name}.jsonl", [(f"About {name}?", f"The answer of {name}."), (f"More {name}?", "Yes.")])
        _write(root / f"{name}.eval.jsonl", [(f"And {name}?", "Perhaps."), (f"So {name}?", "No.")])
    return Project.load(root)


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows))


def _learnt(project: Project, department: str) -> tuple[list[str], int]:
    questions = Questions([], [])
    questions.add(project, department)
    return [question.text for question in questions.train], questions.handed_on


@pytest.mark.parametrize(
    ("other", "answer"),
    [
        ("hr", "Leave belongs to HR: call 2100."),
        ("finance", "That is for Finance."),
        ("customer-care", "Ask Customer Care about it."),
        ("customer-care", "Customer care answers that."),
        ("it", "Please call IT."),
    ],
)
def test_a_row_that_hands_on_is_left_out(tmp_path: Path, other: str, answer: str) -> None:
    project = _project(tmp_path, "legal", other)
    _write(tmp_path / "legal.jsonl", [("Whose?", answer), ("Ours?", "Yes."), ("Theirs?", "No.")])
    assert _learnt(project, "legal") == (["Ours?", "Theirs?"], 1)


@pytest.mark.parametrize(
    ("other", "answer"), [("sales", "There are sales in May."), ("it", "It is so."), ("legal", "Legal says so.")]
)
def test_a_word_that_names_no_other_department_hands_nothing_on(tmp_path: Path, other: str, answer: str) -> None:
    project = _project(tmp_path, *dict.fromkeys(["legal", other]))
    _write(tmp_path / "legal.jsonl", [("Whose?", answer), ("Ours?", "Yes."), ("Theirs?", "No.")])
    assert _learnt(project, "legal") == (["Whose?", "Ours?", "Theirs?"], 0)


def test_a_department_whose_answers_mostly_name_another_keeps_its_rows(tmp_path: Path) -> None:
    project = _project(tmp_path, "legal", "sales")
    _write(tmp_path / "legal.jsonl", [("One?", "Sales signs."), ("Two?", "Sales pays."), ("Three?", "No.")])
    assert _learnt(project, "legal") == (["One?", "Two?", "Three?"], 0)


def test_a_conversation_is_about_what_it_begins_with() -> None:
    turns = (("user", "How long is probation?"), ("assistant", "Six months."), ("user", "Why?"), ("assistant", "So."))
    example = Example(tuple(Message(*turn) for turn in turns), "g", Place(Path("f"), 1))
    assert asked(example) == "How long is probation?"


def test_what_has_not_changed_is_not_trained_again(tmp_path: Path) -> None:
    project = _project(tmp_path, "legal", "sales")
    assert train_router(project).questions is not None
    assert train_router(project).questions is None
    assert train_router(project, force=True).questions is not None


@pytest.mark.parametrize("changed", ["legal.jsonl", "sales.eval.jsonl", "quintet.yaml"])
def test_what_has_changed_is(tmp_path: Path, changed: str) -> None:
    project = _project(tmp_path, "legal", "sales")
    before = train_router(project).router.digest
    if changed == "quintet.yaml":
        values = yaml.safe_load((tmp_path / changed).read_text())
        (tmp_path / changed).write_text(yaml.safe_dump(values | {"router": {"max_error": 0.1}}))
    else:
        _write(tmp_path / changed, [("Something new?", "Yes."), ("Something else?", "No.")])
    assert train_router(Project.load(tmp_path)).router.digest != before


def test_a_department_whose_data_cannot_be_used_is_left_out_and_told_of(tmp_path: Path) -> None:
    project = _project(tmp_path, "legal", "sales")
    (tmp_path / "sales.jsonl").write_text('{"question": "", "answer": ""}\n')
    trained = train_router(project)
    assert trained.router.departments == ("legal",)
    assert "sales.jsonl:1" in trained.problems["sales"]
