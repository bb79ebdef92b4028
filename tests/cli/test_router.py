"""`quintet router train` and `quintet evaluate router`, as a user types them."""

import json
from pathlib import Path

import pytest

from quintet.cli.scaffold import SAMPLE
from quintet.config import Project
from tests.cli.conftest import Shell

ROWS = {"hr": "annual leave", "finance": "petty cash"}


@pytest.fixture
def company(project: Project) -> Path:
    """The tiny company, with departments that are about different things."""
    for name, subject in ROWS.items():
        for suffix, wordings in (("", ("What is {}?", "Who has {}?")), (".eval", ("So {}?", "And {}?"))):
            rows = [{"question": wording.format(subject), "answer": f"Yes, {wording}"} for wording in wordings]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (project.root / "departments" / f"{name}{suffix}.jsonl").write_text(text)
    return project.root


def test_a_router_is_trained_and_measured(quintet: Shell, company: Path) -> None:
    code, out, err = quintet("router", "train", "-p", company)
    assert (code, out.splitlines()[0]) == (0, "The router learnt from the training questions of hr, finance."), err
    code, out, _ = quintet("evaluate", "router", "-p", company)
    assert code == 0
    assert "accuracy 1.000 · macro F1 1.000" in out
    assert "(at most 5% wrong)" in out


def test_both_speak_json(quintet: Shell, company: Path) -> None:
    assert quintet.json("router", "train", "-p", company)["departments"] == ["hr", "finance"]
    found = quintet.json("evaluate", "router", "-p", company)
    assert found["confusion"] == [[2, 0], [0, 2]]
    assert found["max_error"] == 0.05


def test_without_a_router_the_way_to_one_is_named(quintet: Shell, company: Path) -> None:
    code, _, err = quintet("evaluate", "router", "-p", company)
    assert code == 4
    assert "quintet router train" in err


def test_measuring_tells_of_data_that_has_changed(quintet: Shell, company: Path) -> None:
    quintet("router", "train", "-p", company)
    row = json.dumps({"question": "What of leave?", "answer": "Yes."})
    with (company / "departments" / "hr.jsonl").open("a") as stream:
        stream.write(f"{row}\n")
    assert "has changed since: quintet router train" in quintet("evaluate", "router", "-p", company)[2]


def test_a_question_finds_its_department(quintet: Shell, company: Path) -> None:
    quintet("router", "train", "-p", company)
    code, _, err = quintet("ask", "What is annual leave?", "-p", company)
    assert code == 4
    assert err.startswith("hr (")
    assert "department 'hr' has no expert yet" in err


def test_one_that_is_nobodys_is_answered_by_a_choice(quintet: Shell, company: Path) -> None:
    quintet("router", "train", "-p", company)
    code, _, err = quintet("ask", "Why is the sky blue?", "-p", company)
    assert code == 5
    assert "\n- finance: Answers finance questions.\n" in err
    assert err.endswith("\nName one with --department.\n")


def test_training_experts_trains_the_router(trained: Project, quintet: Shell) -> None:
    assert "is up to date" in quintet("router", "train", "-p", trained.root)[1]


@pytest.mark.slow
def test_the_sample_company_is_told_apart(quintet: Shell, tmp_path: Path) -> None:
    quintet("init", tmp_path / "co")
    assert SAMPLE.is_dir()
    quintet("router", "train", "-p", tmp_path / "co")
    found = quintet.json("evaluate", "router", "-p", tmp_path / "co")
    assert found["accuracy"] > 0.95
    assert found["chosen"]["sent"] > 0.8
    assert found["chosen"]["wrong"] < 0.03
    assert found["chosen"]["nobodys"] < 0.2
