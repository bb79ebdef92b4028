import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from quintet.data.documents.drafting import Outcome, cut_library, draft, write_fill_in
from quintet.data.documents.passages import Passage
from quintet.data.documents.reading import Document, Library
from quintet.data.documents.teacher import TeacherSettings
from quintet.errors import DataError, EndpointError
from tests.data.documents.conftest import FakeTeacher, is_check, one_question, passage_in
from tests.fake_endpoint import Reply, refuses, says

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()


def passages(count: int) -> list[Passage]:
    return [Passage("hr.md", ("Leave",), number, word) for number, word in enumerate(WORDS[:count], 1)]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def run(teacher: FakeTeacher, out: Path, count: int = 3, **options: Any) -> Outcome:
    return draft(passages(count), out, TeacherSettings(teacher.url, "small"), **{"questions": 3} | options)


def test_each_passage_becomes_rows_that_name_their_source(teacher: FakeTeacher, tmp_path: Path) -> None:
    outcome = run(teacher, tmp_path / "hr.jsonl", 2)
    assert outcome.as_json() == {
        "passages": 2,
        "drafted": 2,
        "unsupported": 0,
        "near_duplicates": 0,
        "rows": 2,
        "failed": {},
    }
    assert rows(tmp_path / "hr.jsonl")[1] == {
        "question": "What of beta?",
        "answer": "beta",
        "group": "hr.md#2",
        "source": "hr.md > Leave",
        "passage": "beta",
    }


def test_rows_come_in_the_order_of_the_passages_whichever_is_answered_first(
    teacher: FakeTeacher, tmp_path: Path
) -> None:
    second = threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        passage = passage_in(body["messages"][1]["content"])
        if passage == "alpha":
            assert second.wait(10)
        elif is_check(body):
            second.set()
        return one_question(body)

    teacher.answer = answer
    run(teacher, tmp_path / "hr.jsonl", 2)
    assert [row["passage"] for row in rows(tmp_path / "hr.jsonl")] == ["alpha", "beta"]


def test_an_answer_that_its_passage_does_not_support_is_left_out_and_counted(
    teacher: FakeTeacher, tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        doubtful = is_check(body) and "Answer: beta" in body["messages"][1]["content"]
        return says("No.") if doubtful else one_question(body)

    teacher.answer = answer
    outcome = run(teacher, tmp_path / "hr.jsonl", 3)
    assert (outcome.drafted, outcome.unsupported, outcome.rows) == (3, 1, 2)
    assert [row["passage"] for row in rows(tmp_path / "hr.jsonl")] == ["alpha", "gamma"]


def test_a_question_almost_as_another_is_left_out_and_counted(teacher: FakeTeacher, tmp_path: Path) -> None:
    same = json.dumps([{"question": "How many days of leave are there?", "answer": "Twenty."}])
    teacher.answer = lambda body: says("yes" if is_check(body) else same)
    outcome = run(teacher, tmp_path / "hr.jsonl", 3)
    assert (outcome.drafted, outcome.near_duplicates, outcome.rows) == (3, 2, 1)
    assert rows(tmp_path / "hr.jsonl")[0]["group"] == "hr.md#1"


def test_a_passage_that_the_teacher_cannot_use_is_named_and_the_others_go_on(
    teacher: FakeTeacher, tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return says("Sorry.") if passage_in(body["messages"][1]["content"]) == "beta" else one_question(body)

    teacher.answer = answer
    outcome = run(teacher, tmp_path / "hr.jsonl", 3)
    assert list(outcome.failed) == ["hr.md#2"]
    assert "found 'Sorry.'" in outcome.failed["hr.md#2"]
    assert outcome.rows == 2


def test_passages_that_fail_one_after_another_end_the_job(teacher: FakeTeacher, tmp_path: Path) -> None:
    teacher.answer = lambda body: refuses(400, "prompt too long")
    with pytest.raises(EndpointError, match=r"5 passages in a row came to nothing, .* prompt too long"):
        run(teacher, tmp_path / "hr.jsonl", 12)
    assert len(teacher.asked) < 12
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_when_no_row_is_left(teacher: FakeTeacher, tmp_path: Path) -> None:
    teacher.answer = lambda body: says("no") if is_check(body) else one_question(body)
    with pytest.raises(DataError, match=r"no row is left of 2 passages: 2 drafted, 2 unsupported"):
        run(teacher, tmp_path / "hr.jsonl", 2)
    assert not (tmp_path / "hr.jsonl").exists()


def test_a_job_that_was_refused_goes_on_where_it_was(teacher: FakeTeacher, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        late = passage_in(body["messages"][1]["content"]) == "mu"
        return refuses(401, "your time is up") if late else one_question(body)

    teacher.answer = answer
    with pytest.raises(EndpointError, match="your time is up"):
        run(teacher, tmp_path / "hr.jsonl", 12)
    kept = {checked["question"] for row in rows(tmp_path / "hr.drafts.jsonl") for checked in row["drafts"]}
    assert len(kept) >= 8
    assert not (tmp_path / "hr.jsonl").exists()

    teacher.answer = one_question
    teacher.bodies.clear()
    seen: list[tuple[int, int]] = []
    run(teacher, tmp_path / "hr.jsonl", 12, progress=lambda done, total: seen.append((done, total)))
    # A set: what was in flight when the job was refused may reach the server only now.
    assert set(teacher.asked) == {word for word in WORDS if f"What of {word}?" not in kept}
    assert seen[0] == (len(kept), 12)
    assert seen[-1] == (12, 12)
    assert [row["passage"] for row in rows(tmp_path / "hr.jsonl")] == WORDS


JOB = """
import sys
from pathlib import Path
from quintet.data.documents.drafting import draft
from quintet.data.documents.teacher import TeacherSettings
from tests.data.documents.test_drafting import passages
draft(passages(12), Path(sys.argv[2]), TeacherSettings(sys.argv[1], "small"), 3)
"""


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_that_is_killed_goes_on_where_it_was(
    teacher: FakeTeacher, tmp_path: Path, signal_sent: signal.Signals
) -> None:
    stuck, end = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        if passage_in(body["messages"][1]["content"]) in WORDS[8:]:
            stuck.set()
            end.wait(60)
        return one_question(body)

    teacher.answer = answer
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", JOB, teacher.url, str(tmp_path / "hr.jsonl")]
    path = os.pathsep.join([str(root), str(root / "src")])
    with subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": path}) as job:
        assert stuck.wait(60)
        state = tmp_path / "hr.drafts.jsonl"
        while job.poll() is None and not (state.exists() and state.read_bytes().count(b"\n") >= 5):
            time.sleep(0.01)
        job.send_signal(signal_sent)
    assert job.returncode == -signal_sent
    end.set()
    kept = state.read_text()
    teacher.answer = one_question
    teacher.bodies.clear()
    assert run(teacher, tmp_path / "hr.jsonl", 12).rows == 12
    # A set: what was in flight when the job was killed may reach the server only now.
    assert set(teacher.asked) == {word for word in WORDS if f"What of {word}?" not in kept}


def test_a_record_cut_off_in_the_middle_is_asked_for_again(teacher: FakeTeacher, tmp_path: Path) -> None:
    run(teacher, tmp_path / "hr.jsonl", 2)
    state = tmp_path / "hr.drafts.jsonl"
    state.write_bytes(state.read_bytes()[:-10])
    (tmp_path / "hr.jsonl").unlink()
    teacher.bodies.clear()
    assert run(teacher, tmp_path / "hr.jsonl", 2).rows == 2
    assert len(teacher.asked) == 1
    assert len(rows(state)) == 2


@pytest.mark.parametrize("line", ["not json", "[]", '{"key": "x"}', '{"key": "x", "drafts": [{"question": "y"}]}'])
def test_a_file_that_holds_no_such_records_is_refused(teacher: FakeTeacher, tmp_path: Path, line: str) -> None:
    (tmp_path / "hr.drafts.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"hr.drafts.jsonl:1: is no record of this job; move the file away"):
        run(teacher, tmp_path / "hr.jsonl")
    assert teacher.bodies == []


@pytest.mark.parametrize("changed", [{"questions": 4}, {"model": "large"}])
def test_other_settings_ask_anew(teacher: FakeTeacher, tmp_path: Path, changed: dict[str, Any]) -> None:
    run(teacher, tmp_path / "hr.jsonl", 2)
    (tmp_path / "hr.jsonl").unlink()
    teacher.bodies.clear()
    settings = TeacherSettings(teacher.url, changed.get("model", "small"))
    draft(passages(2), tmp_path / "hr.jsonl", settings, changed.get("questions", 3))
    assert teacher.asked == ["alpha", "beta"]


def test_a_file_that_is_there_is_not_overwritten(teacher: FakeTeacher, tmp_path: Path) -> None:
    out = tmp_path / "hr.jsonl"
    out.write_text("by hand")
    with pytest.raises(DataError, match=r"hr.jsonl exists already and would be overwritten"):
        run(teacher, out)
    with pytest.raises(DataError, match=r"hr.jsonl exists already"):
        write_fill_in(passages(1), out)
    assert out.read_text() == "by hand"
    assert teacher.bodies == []


def test_without_a_teacher_each_passage_is_a_row_to_fill_in(tmp_path: Path) -> None:
    write_fill_in(passages(2), tmp_path / "new" / "hr.jsonl")
    assert rows(tmp_path / "new" / "hr.jsonl")[0] == {
        "question": "",
        "answer": "",
        "group": "hr.md#1",
        "source": "hr.md > Leave",
        "passage": "alpha",
    }
    assert rows(tmp_path / "new" / "hr.passages.jsonl") == [
        {"source": "hr.md > Leave", "passage": "alpha"},
        {"source": "hr.md > Leave", "passage": "beta"},
    ]


def test_nothing_is_filled_in_over_earlier_passages(tmp_path: Path) -> None:
    (tmp_path / "hr.passages.jsonl").write_text("by hand")
    with pytest.raises(DataError, match=r"hr.passages.jsonl exists already"):
        write_fill_in(passages(1), tmp_path / "hr.jsonl")
    assert not (tmp_path / "hr.jsonl").exists()


def test_a_document_of_headings_alone_is_refused_by_name() -> None:
    library = Library((Document("a.md", "# Leave"), Document("b.md", "Text.")), ())
    with pytest.raises(DataError, match=r"a.md: holds headings and no text"):
        cut_library(library, 100)
