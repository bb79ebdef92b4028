import sys
from dataclasses import replace
from typing import Any

import pytest

from quintet.config import Project, TrainingConfig
from quintet.errors import TrainingError
from quintet.training import plan as planning
from quintet.training.arguments import steps_of
from quintet.training.plan import Estimate, deviation, estimate, least_bytes, read_estimate, stages
from quintet.training.preparation import plan_run
from quintet.training.processes import train_side_by_side
from tests.training.test_every_method import configure

ESTIMATE = Estimate(
    department="hr", method="lora", objective="sft", rows=12, epochs=2, tokens_per_epoch=100, steps=6, trainable=10,
    parameters=100, seconds=50.0, peak_bytes=2 * 10**9, artifact_bytes=40, available_bytes=10 * 10**9,
)  # fmt: skip


@pytest.mark.slow
def test_a_few_real_steps_tell_what_the_run_will_take(project: Project) -> None:
    project = configure(project, epochs=2, batch_size=4, patience=3)
    plan = plan_run(project, "hr")
    found = estimate(project, plan)
    assert (found.rows, found.steps) == (12, 6)
    assert found.tokens_per_epoch == sum(map(len, plan.rows["input_ids"]))
    assert 0 < found.seconds < 60
    assert found.fits
    # In a process of its own, as the estimate was: this one holds what the tests before it left.
    (future,) = train_side_by_side(project, [plan], lambda _: None, 1, force=False, resume=False)
    expert = future.result()
    assert found.artifact_bytes == pytest.approx(expert.megabytes * 1e6, rel=0.2)
    assert expert.peak_bytes is not None
    assert found.peak_bytes == pytest.approx(expert.peak_bytes, rel=0.5)
    assert read_estimate(project, plan) == found


@pytest.mark.parametrize(
    ("values", "objective", "rows", "steps"),
    [
        ({"epochs": 5, "batch_size": 8}, "sft", 700, 440),
        ({"epochs": 3, "batch_size": 8, "gradient_accumulation": 4}, "sft", 100, 12),
        ({"epochs": 0.5, "batch_size": 10}, "sft", 100, 5),
        ({"batch_size": 8, "dpo": {"epochs": 3, "batch_size": 4}}, "dpo", 40, 30),
    ],
)
def test_steps_are_those_that_the_trainer_makes(values: dict[str, Any], objective: str, rows: int, steps: int) -> None:
    assert steps_of(TrainingConfig.model_validate(values), objective, rows) == steps


def test_the_trained_weights_follow_from_the_shape_alone(project: Project) -> None:
    full = least_bytes(plan_run(configure(project, method="full"), "hr"))
    assert full["trainable"] == full["parameters"]
    assert full["peak_bytes"] >= 16 * full["parameters"]
    lora = least_bytes(plan_run(configure(project, method="lora"), "hr"))
    # Rank 8 beside every linear layer of two layers: q, o of 32 x 32; k, v of 32 x 16; three of 32 x 64.
    assert lora["trainable"] == 2 * 8 * (2 * 64 + 2 * 48 + 3 * 96)


def test_what_will_not_fit_is_told_with_the_change_that_would_before_anything_is_loaded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "available_bytes", lambda: 100_000)
    found = estimate(project, plan_run(configure(project, method="full"), "hr"))
    assert not found.fits
    assert found.advice is not None
    assert "method: lora" in found.advice


def test_first_steps_that_cannot_be_made_are_an_error_of_ours(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrainingError, match="the first steps of hr cannot be made"):
        estimate(project, plan_run(project, "hr"))


def test_preferences_after_answers_are_two_runs(project: Project) -> None:
    file = project.root / "departments" / "hr.preferences.jsonl"
    file.write_text("".join(f'{{"prompt": "q{n}", "chosen": "a{n}", "rejected": "b"}}\n' for n in range(10)))
    opened = configure(project, {"preferences": "departments/hr.preferences.jsonl"}, method="dpo")
    assert [stage.objective for stage in stages(plan_run(opened, "hr"))] == ["sft", "dpo"]


def test_a_measured_run_is_told_beside_what_was_planned() -> None:
    assert deviation(ESTIMATE, 60.0, 10**9) == ("planned 50 s, took 60 s (+20%); planned 2.0 GB, took 1.0 GB (-50%)")


def test_a_tenth_of_the_memory_is_left_to_the_system() -> None:
    assert replace(ESTIMATE, peak_bytes=9 * 10**9).fits
    assert not replace(ESTIMATE, peak_bytes=9 * 10**9 + 1).fits
