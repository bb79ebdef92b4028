"""What was measured is kept for whoever shares the registry, and says when it decides nothing any more."""

import json
import shutil
from math import inf, nan
from pathlib import Path

import pytest
import yaml

from quintet.config import Project
from quintet.errors import UnknownModelError
from quintet.registry.evidence import (
    read_evidence,
    read_forgetting,
    read_losses,
    record_evidence,
    why_it_decides_nothing,
    write_forgetting,
)
from quintet.registry.experts import new_run, publish
from quintet.registry.losses import Curve
from quintet.registry.releases import release
from tests.registry.making import evidence_of, make_expert, stage


@pytest.fixture
def company(project: Project) -> Project:
    for _ in range(2):
        make_expert(project)
    return project


def objection(project: Project, name: str) -> str | None:
    return why_it_decides_nothing(project, name, read_evidence(project, name))


def test_what_was_measured_last_is_kept(company: Project) -> None:
    assert read_evidence(company, "hr@1") is None
    for passed in (True, False):
        record_evidence(company, "hr@1", evidence_of(company, passed=passed))
    found = read_evidence(company, "hr@1")
    assert found is not None
    assert (found.passed, found.blocked_by, found.scores["base"]["f1"]) == (False, ["specific: it fits"], 0.5)
    with pytest.raises(UnknownModelError):
        record_evidence(company, "hr@9", evidence_of(company))


def test_what_is_no_number_is_kept_as_nothing(company: Project) -> None:
    record_evidence(company, "hr@1", evidence_of(company, scores={"base": {"perplexity": inf, "f1": nan}}))
    found = read_evidence(company, "hr@1")
    assert found is not None
    assert found.scores["base"] == {"perplexity": None, "f1": None}


def test_what_was_not_measured_decides_nothing(company: Project) -> None:
    assert objection(company, "hr@1") == "hr@1 was not measured yet"


def test_it_decides_while_it_was_measured_beside_what_is_live(company: Project) -> None:
    record_evidence(company, "hr@2", evidence_of(company))
    assert objection(company, "hr@2") is None
    release(company, "hr", 1)
    assert objection(company, "hr@2") == "hr@2 was not measured beside hr@1, which answers now"
    record_evidence(company, "hr@2", evidence_of(company, live="hr@1"))
    assert objection(company, "hr@2") is None
    release(company, "hr", 2)
    assert objection(company, "hr@2") is None


def test_a_gate_with_other_rules_wants_another_look(company: Project) -> None:
    record_evidence(company, "hr@1", evidence_of(company))
    path = company.root / "quintet.yaml"
    config = yaml.safe_load(path.read_text())
    config["departments"]["hr"]["gate"] = {"questions": 100}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert "other rules" in (objection(Project.load(company.root), "hr@1") or "")


def test_the_matrix_of_what_was_forgotten_comes_back(project: Project) -> None:
    assert read_forgetting(project) is None
    matrix = {"experts": ("hr@1",), "sets": ("hr", "general"), "base": (9.5, inf), "perplexity": ((2.5, 9.0),)}
    write_forgetting(project, matrix)
    found = read_forgetting(project)
    assert found is not None
    assert (found["sets"], found["base"], found["perplexity"]) == (["hr", "general"], [9.5, None], [[2.5, 9.0]])


def logged(run: Path, steps: int) -> None:
    lines = [*({"step": n, "loss": 1 / n} for n in range(1, steps + 1)), {"step": steps, "eval_loss": inf}]
    lines.append({"step": steps, "eval_loss": 0.5})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_losses_of_a_training_are_there_without_its_folder(project: Project) -> None:
    run = new_run(project, "hr")
    logged(run, steps=2000)
    expert = publish(*stage(run), project)
    shutil.rmtree(project.runs)
    found = read_losses(project, expert)
    assert 100 < len(found.training) <= 200
    assert found.training[-1] == (2000, 1 / 2000)
    assert found.held_out == ((2000, 0.5),)


def test_losses_that_were_not_registered_are_read_where_they_are(project: Project) -> None:
    expert = make_expert(project)
    assert read_losses(project, expert) == Curve((), ())
    logged(expert.folder.parent, steps=1)
    assert read_losses(project, expert).training == ((1, 1.0),)
