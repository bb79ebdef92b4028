"""`quintet plan` and `quintet bench training`, as a user types them."""

import json

import pytest

from quintet.config import Project
from quintet.training import plan as planning
from tests.cli.conftest import Shell
from tests.training.test_every_method import configure


def test_plan_tells_time_memory_and_size_of_each_run(quintet: Shell, project: Project) -> None:
    project = configure(project, epochs=2)
    (found,) = quintet.json("plan", "hr", "-p", project.root)
    assert (found["department"], found["steps"], found["advice"]) == ("hr", 2, None)
    code, _, err = quintet("train", "hr", "-p", project.root)
    assert code == 0
    assert "planned" in err


def test_plan_fails_when_a_run_will_not_fit_and_says_what_would(
    quintet: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "available_bytes", lambda: 100_000)
    code, out, err = quintet("plan", "hr", "--method", "full", "-p", project.root)
    assert code == 1
    assert "full" in out
    assert "what would fit: method: lora" in err
    _, out, _ = quintet("plan", "hr", "--method", "full", "--json", "-p", project.root)
    assert json.loads(out, parse_constant=pytest.fail)[0]["seconds"] is None


def test_bench_trains_a_copy_and_prints_a_table(quintet: Shell, project: Project) -> None:
    project = configure(project, epochs=1)
    code, out, _ = quintet("bench", "training", "hr", "--methods", "prefix", "-p", project.root)
    (row,) = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| prefix")]
    assert code == 0
    assert len(row) == 9
    assert 0 <= float(row[-1]) <= 1
    assert not list(project.runs.glob("hr/[0-9]*"))
