"""The losses of a run are read as they were logged, whatever a kill or a resumption did to the file."""

import json
from math import nan
from pathlib import Path

import pytest

from quintet.registry.losses import Curve, read_curve


def write_metrics(folder: Path, *entries: object, end: str = "") -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + end)
    return path


def test_training_and_held_out_losses_are_two_series(tmp_path: Path) -> None:
    metrics = write_metrics(
        tmp_path,
        {"step": 10, "loss": 2.1, "learning_rate": 0.004, "epoch": 0.1},
        {"step": 20, "loss": 1.9},
        {"step": 20, "eval_loss": 1.2, "eval_runtime": 3},
        {"step": 20, "train_runtime": 40.0, "train_loss": 2.0},
    )
    assert read_curve(metrics) == Curve(((10, 2.1), (20, 1.9)), ((20, 1.2),))


def test_a_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    metrics = write_metrics(tmp_path, {"step": 10, "loss": 2.1}, end='{"step": 20, "lo')
    assert read_curve(metrics).training == ((10, 2.1),)


def test_a_line_torn_inside_a_letter_is_left_out(tmp_path: Path) -> None:
    metrics = write_metrics(tmp_path, {"step": 10, "loss": 2.1})
    metrics.write_bytes(metrics.read_bytes() + '{"note": "é'.encode()[:-1])
    assert read_curve(metrics).training == ((10, 2.1),)


@pytest.mark.parametrize("entry", [[1], 7, {"loss": 1.0}, {"step": 20, "loss": "1.0"}, {"step": None, "loss": 1.0}])
def test_a_line_of_another_kind_is_left_out(tmp_path: Path, entry: object) -> None:
    assert read_curve(write_metrics(tmp_path, {"step": 10, "loss": 2.1}, entry)).training == ((10, 2.1),)


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    losses = [(10, 3.0), (20, 2.0), (30, 1.0), (20, 2.5), (30, 1.5)]
    metrics = write_metrics(tmp_path, *({"step": step, "loss": loss} for step, loss in losses))
    assert read_curve(metrics).training == ((10, 3.0), (20, 2.5), (30, 1.5))


def test_a_run_that_logged_nothing_yet_has_no_losses(tmp_path: Path) -> None:
    assert read_curve(tmp_path / "metrics.jsonl") == Curve((), ())


def test_the_best_step_is_the_first_of_the_lowest_held_out_loss() -> None:
    assert Curve((), ((10, 2.0), (20, nan), (30, 1.0), (40, 1.0))).best == (30, 1.0)


def test_a_run_without_held_out_losses_has_no_best_step() -> None:
    assert Curve(((10, 1.0),), ()).best is None
