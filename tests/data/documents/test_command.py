import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from quintet.cli.documents import from_documents
from quintet.errors import ConfigError, DataError
from tests.data.documents.conftest import FakeTeacher, one_question, passage_in
from tests.fake_endpoint import Reply, says

application = typer.Typer()
application.command()(from_documents)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handbooks"
    made.mkdir()
    (made / "hr.md").write_text("# Leave\n\nTwenty days.\n\n# Pay\n\nMonthly.\n")
    (made / "plan.xlsx").write_bytes(b"x")
    return made


def run(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(application, [str(folder), "--out", str(folder.parent / "hr.jsonl"), *options])


def to(teacher: FakeTeacher) -> tuple[str, ...]:
    return "--teacher-url", teacher.url, "--teacher-model", "small"


def test_with_a_teacher_rows_are_written_and_counted(folder: Path, teacher: FakeTeacher) -> None:
    result = run(folder, *to(teacher))
    assert result.exit_code == 0, result.output
    assert "Read 1 documents: 2 passages\n left out plan.xlsx: of an unknown kind\n" in result.stdout
    assert "hr.jsonl: 2 drafted, 0 not supported by their passage, 0 near-duplicates\n" in result.stdout
    assert (folder.parent / "hr.jsonl").read_text().count("\n") == 2


def test_without_a_teacher_nothing_is_sent_and_the_command_says_so(folder: Path, teacher: FakeTeacher) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "No teacher is named (--teacher-url), so nothing was drafted." in result.stdout
    assert (folder.parent / "hr.passages.jsonl").exists()
    assert (folder.parent / "hr.jsonl").exists()
    assert teacher.bodies == []


def test_the_key_is_read_from_the_variable(folder: Path, teacher: FakeTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_TEACHER_KEY", "one")
    monkeypatch.setenv("MINE", "two\n")
    run(folder, *to(teacher))
    assert set(teacher.keys) == {"Bearer one"}
    teacher.keys.clear()
    (folder.parent / "hr.jsonl").unlink()
    (folder.parent / "hr.drafts.jsonl").unlink()
    run(folder, *to(teacher), "--teacher-key-env", "MINE")
    assert set(teacher.keys) == {"Bearer two"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--teacher-model", "small"], "a teacher is named without its address; add --teacher-url"),
        (["--teacher-url", "http://host"], "add --teacher-model"),
        (["--teacher-url", "host", "--teacher-model", "small"], "'host' is none; expected one such as"),
        (
            ["--teacher-url", "http://host", "--teacher-model", "m", "--teacher-key-env", "NOT_SET"],
            r"names \$NOT_SET, which is empty",
        ),
    ],
)
def test_half_a_teacher_is_refused_before_anything_is_read(folder: Path, options: list[str], message: str) -> None:
    result = run(folder / "none", *options)
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(ConfigError, match=message):
        raise result.exception


def test_a_bad_document_ends_the_command_and_nothing_is_written(folder: Path, teacher: FakeTeacher) -> None:
    (folder / "bad.pdf").write_bytes(b"junk")
    result = run(folder, *to(teacher))
    assert isinstance(result.exception, DataError)
    assert [path.name for path in folder.parent.iterdir()] == ["handbooks"]
    assert teacher.bodies == []


@pytest.mark.parametrize("out", ["hr.csv", "hr"])
def test_another_kind_of_output_is_refused(folder: Path, out: str) -> None:
    result = CliRunner().invoke(application, [str(folder), "--out", out])
    assert f"{out}: expected a name that ends with .jsonl" in str(result.exception)


COMMAND = "import typer; from quintet.cli.documents import from_documents; typer.run(from_documents)"


def test_a_stopped_command_says_how_to_go_on(folder: Path, teacher: FakeTeacher) -> None:
    asked, end = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        asked.set()
        end.wait(60)
        return one_question(body)

    teacher.answer = answer
    command = [sys.executable, "-c", COMMAND, str(folder), "--out", str(folder.parent / "hr.jsonl"), *to(teacher)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as job:
        assert asked.wait(60)
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=60)
    end.set()
    assert job.returncode == 130
    assert "Stopped. What the teacher wrote is in " in said
    assert "hr.drafts.jsonl; run the same command again to go on." in said
    assert "Traceback" not in said


def test_failed_passages_are_shown(folder: Path, teacher: FakeTeacher) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return says("Sorry.") if passage_in(body["messages"][1]["content"]) == "Monthly." else one_question(body)

    teacher.answer = answer
    assert " failed hr.md#2: expected a JSON list" in run(folder, *to(teacher)).stdout


def test_json_holds_the_counts(folder: Path, teacher: FakeTeacher) -> None:
    result = run(folder, *to(teacher), "--json")
    assert json.loads(result.stdout) == {
        "documents": 1,
        "passages": 2,
        "left_out": {"plan.xlsx": "of an unknown kind"},
        "notes": {},
        "out": str(folder.parent / "hr.jsonl"),
        "drafted": 2,
        "unsupported": 0,
        "near_duplicates": 0,
        "rows": 2,
        "failed": {},
    }
