"""`quintet data from-feedback`: counts alone are told of; what is kept is reviewed, and then becomes data."""

import json
from datetime import UTC, datetime
from pathlib import Path

import yaml

from quintet.config import Project
from quintet.data.loading import ExampleReader
from quintet.messages import Message
from quintet.registry.feedback import Answered, Opinion, give_feedback, keep_request
from tests.cli.conftest import Shell

ANSWERED = Answered("r1", "hr", 3, "d" * 64)


def keep(project: Project) -> Project:
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["departments"]["hr"]["keep_requests"] = "30d"
    path.write_text(yaml.safe_dump(values))
    return Project.load(project.root)


def test_without_keep_requests_the_counts_are_told_and_what_to_set(
    quintet: Shell, project: Project, tmp_path: Path
) -> None:
    give_feedback(project, ANSWERED, Opinion(False, "On the 27th."))
    target = tmp_path / "review.jsonl"
    code, _, complaint = quintet("data", "from-feedback", "hr", "--out", target, "--project", project.root)
    assert code == 3
    assert "departments.hr.keep_requests is not set" in complaint
    assert "hr@3 0 up and 1 down" in complaint
    assert not target.exists()


def test_what_was_kept_is_reviewed_and_then_written_as_data(quintet: Shell, project: Project, tmp_path: Path) -> None:
    kept = keep(project)
    keep_request(kept, ANSWERED, [Message("user", "When is pay day?")], "On the 1st.", datetime.now(UTC))
    give_feedback(kept, ANSWERED, Opinion(False, "On the 27th."))
    review, target = tmp_path / "review.jsonl", tmp_path / "hr.feedback.jsonl"
    command = ("data", "from-feedback", "hr", "--project", project.root)
    assert quintet(*command, "--out", review)[0] == 0
    code, _, complaint = quintet(*command, "--reviewed", review, "--out", target)
    assert (code, "no row has 'accepted': true" in complaint) == (3, True)
    review.write_text(json.dumps(json.loads(review.read_text()) | {"accepted": True}) + "\n")
    code, said, _ = quintet(*command, "--reviewed", review, "--out", target)
    assert code == 0
    assert "Wrote 1 rows" in said
    (learnt,) = ExampleReader(target)
    (preferred,) = ExampleReader(tmp_path / "hr.feedback.preferences.jsonl")
    assert learnt.answer == preferred.answer == "On the 27th."  # type: ignore[union-attr]
    assert preferred.rejected == "On the 1st."  # type: ignore[union-attr]


def test_a_file_that_somebody_may_have_reviewed_is_not_overwritten(
    quintet: Shell, project: Project, tmp_path: Path
) -> None:
    review = tmp_path / "review.jsonl"
    review.write_text("mine")
    code, _, complaint = quintet("data", "from-feedback", "hr", "--out", review, "--project", project.root)
    assert (code, "would be overwritten" in complaint) == (3, True)
    assert review.read_text() == "mine"
