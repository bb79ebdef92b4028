"""Departments side by side, and one run by several processes: the same experts as one after the other."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quintet.config import Project
from quintet.training import processes
from quintet.training.department import Note, TrainingStep
from quintet.training.preparation import plan_run
from quintet.training.run import train
from tests.conftest import write_project
from tests.training.test_every_method import configure


def steps_of(project: Project) -> list[tuple[float, float]]:
    """Return loss and norm of the gradient at each step."""
    entries = [json.loads(line) for line in (project.runs / "hr" / "1" / "metrics.jsonl").read_text().splitlines()]
    return [(entry["loss"], entry["grad_norm"]) for entry in entries if "loss" in entry]


def test_departments_side_by_side_become_what_they_become_one_by_one(
    project: Project, tmp_path: Path, tiny_base: Path
) -> None:
    plans = [plan_run(project, name) for name in ("hr", "finance")]
    # A process is given its plan, and reads no rows again.
    for name in ("hr", "finance"):
        project.data(name).unlink()
    heard: list[Note | TrainingStep] = []
    futures = processes.train_side_by_side(project, plans, heard.append, 2, force=False, resume=False)
    experts = [future.result() for future in futures]
    assert [expert.name for expert in experts] == ["hr@1", "finance@1"]
    assert {told.department for told in heard if isinstance(told, TrainingStep)} == {"hr", "finance"}
    alone = write_project(tmp_path / "alone", tiny_base)
    assert experts[0].digest == train(alone, plan_run(alone, "hr")).digest


def test_a_department_whose_process_is_killed_takes_no_other_with_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan_run(project, name) for name in ("hr", "finance")]
    heard: list[TrainingStep] = []

    def listener(told: Note | TrainingStep) -> None:
        if not isinstance(told, TrainingStep) or told.department != "hr":
            return
        heard.append(told)
        # Of a process that is dead, more steps may still be told.
        if len(heard) == 1:
            subprocess.run(["pkill", "-KILL", "-P", str(os.getpid()), "-f", "spawn_main"], check=True)

    # One after the other, so that only the first one's process is there to be killed.
    futures = processes.train_side_by_side(project, plans, listener, 1, force=False, resume=False)
    assert "ended with code -9" in str(futures[0].exception())
    assert "quintet train hr --resume" in str(futures[0].exception())
    assert futures[1].result().name == "finance@1"


def test_no_more_run_at_once_than_the_memory_holds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [plan_run(project, name) for name in ("hr", "finance")]
    assert processes.side_by_side(project, plans, 8) == 2
    monkeypatch.setattr(processes, "available_bytes", lambda: 1_000_000_000)
    assert processes.side_by_side(project, plans, 8) == 1


def test_two_processes_of_one_run_take_the_steps_of_one_with_twice_the_batch(
    project: Project, tmp_path: Path, tiny_base: Path
) -> None:
    settings: dict[str, Any] = {"gradient_accumulation": 2, "epochs": 3, "logging_steps": 1}
    project = configure(project, batch_size=3, **settings)
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [sys.executable, "-m", *launch.split(), "--dynamo_backend", "no", "-m", "quintet.cli"]
    done = subprocess.run(
        [*command, "train", "hr", "--json", "-p", str(project.root)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    assert [found["expert"] for found in json.loads(done.stdout)] == ["hr@1"]
    alone = configure(write_project(tmp_path / "alone", tiny_base), batch_size=6, **settings)
    train(alone, plan_run(alone, "hr"))
    expected = steps_of(alone)
    assert len(expected) == 3
    for found, wanted in zip(steps_of(project), expected, strict=True):
        assert found == pytest.approx(wanted, rel=0.01)
