"""What ends a run before its end, and how it goes on: a kill, a full disk, a held-out loss that rises."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.registry.experts import newest_expert
from quintet.training.preparation import plan_run
from quintet.training.run import find_stopped, train
from tests.training.test_every_method import configure


def command(project: Project, *options: str) -> list[str]:
    return [sys.executable, "-m", "quintet.cli", "train", "hr", "-p", str(project.root), *options]


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(project: Project, tmp_path: Path) -> None:
    project = configure(project, epochs=250)
    shutil.copytree(project.root, tmp_path / "undisturbed")
    with subprocess.Popen(command(project), stderr=subprocess.DEVNULL) as process:
        wait_for(project.runs / "hr" / "1" / "checkpoints" / "checkpoint-50" / "trainer_state.json", process)
        process.send_signal(signal.SIGKILL)
    assert newest_expert(project, "hr") is None
    done = subprocess.run(command(project, "--resume"), capture_output=True, text=True, check=True)
    assert "goes on from" in done.stderr
    resumed = newest_expert(project, "hr")
    undisturbed = Project.load(tmp_path / "undisturbed")
    assert resumed is not None
    assert resumed.version == 1
    assert resumed.digest == train(undisturbed, plan_run(undisturbed, "hr")).digest
    assert not (project.runs / "hr" / "1" / "checkpoints").exists()


def test_nothing_is_resumed_that_was_begun_otherwise(project: Project) -> None:
    folder = project.runs / "hr" / "1"
    checkpoint = folder / "checkpoints" / "checkpoint-8"
    checkpoint.mkdir(parents=True)
    plan = plan_run(project, "hr")
    (folder / "run.json").write_text(json.dumps({"fingerprint": plan.fingerprint}))
    (checkpoint / "trainer_state.json").write_text('{"global_st')
    assert find_stopped(project, plan) is None
    (checkpoint / "trainer_state.json").write_text('{"global_step": 8}')
    assert find_stopped(project, plan) == checkpoint
    assert find_stopped(project, plan_run(configure(project, epochs=3), "hr")) is None


def test_a_full_disk_ends_the_run_with_a_word_and_no_half_expert(project: Project) -> None:
    made = [sys.executable, "-m", "quintet.cli", "releases", "hr", "-p", str(project.root)]
    subprocess.run(made, check=False, capture_output=True)  # The registry is there, and is larger when it is made.
    limit = 50_000  # bytes a file: less than a checkpoint needs, as on a disk with that much left
    done = subprocess.run(
        command(project),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 7, done.stderr
    assert "no space is left" in done.stderr
    assert "quintet train hr --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert newest_expert(project, "hr") is None


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_with_patience_ends_when_the_held_out_loss_rises_and_keeps_the_best(
    project: Project, method: str
) -> None:
    # The held-out answers are others than the trained ones: learning those makes it worse.
    rows = [{"question": f"Which one {n}?", "answer": "Quite another answer than that."} for n in range(4)]
    (project.root / "departments" / "hr.eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = configure(project, method=method, epochs=50, learning_rate=0.02, patience=1)
    train(project, plan_run(project, "hr"))
    entries = [json.loads(line) for line in (project.runs / "hr" / "1" / "metrics.jsonl").read_text().splitlines()]
    held_out = [(entry["step"], entry["eval_loss"]) for entry in entries if "eval_loss" in entry]
    assert entries[-1]["step"] < 50
    assert held_out[-1][1] > min(loss for _, loss in held_out)
