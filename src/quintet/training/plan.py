"""What a run will take on this machine, before it starts: a few real steps of it, timed, in a process of their own."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quintet.config import Project
from quintet.errors import TrainingError
from quintet.files import write_json
from quintet.machine import memory_limit
from quintet.training.arguments import steps_of
from quintet.training.methods import FULL, LORA, PREFIX, QLORA, trained_by
from quintet.training.preparation import Plan

ROOM = 0.9
"""The share of the memory that a run may take: the rest is the system's."""


@dataclass(frozen=True)
class Estimate:
    """What one run is expected to take; memory is the process's on a CPU, the device's on a GPU."""

    department: str
    method: str
    objective: str
    rows: int
    epochs: float
    tokens_per_epoch: int
    steps: int
    trainable: int
    parameters: int
    seconds: float
    peak_bytes: int
    artifact_bytes: int
    available_bytes: int
    advice: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the machine has the memory."""
        return self.peak_bytes <= ROOM * self.available_bytes


def stages(plan: Plan) -> list[Plan]:
    """Return the runs that a plan stands for, in their order: preferences may want answers learnt first."""
    return [plan.start, plan] if isinstance(plan.start, Plan) else [plan]


def estimate(project: Project, plan: Plan) -> Estimate:
    """Return what the run will take; raise TrainingError when its first steps cannot be made at all."""
    available = available_bytes()
    try:
        least = least_bytes(plan)
    except ValueError as error:
        raise TrainingError(f"{plan.department} cannot be trained by {plan.training.method!r}: {error}") from error
    if least["peak_bytes"] > ROOM * available:
        return _estimate(plan, {**least, "seconds_per_step": float("nan")}, available)
    # A few steps of the run, in a process of their own, so that its memory is its own.
    arguments = [str(project.root), plan.department, plan.training.method, plan.objective]
    done = subprocess.run(  # noqa: S603 our own module, with the project's own names
        [sys.executable, "-m", "quintet.training.calibrate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, most likely for want of memory"])[-1]
        raise TrainingError(f"the first steps of {plan.department} cannot be made: {last}; {_advice(plan)}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found = _estimate(plan, measured, available)
    _kept(project, plan).parent.mkdir(parents=True, exist_ok=True)
    write_json(_kept(project, plan), asdict(found))
    return found


def read_estimate(project: Project, plan: Plan) -> Estimate | None:
    """Return what `estimate` found for exactly this plan, if it was asked."""
    try:
        return Estimate(**json.loads(_kept(project, plan).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _kept(project: Project, plan: Plan) -> Path:
    return project.runs / plan.department / f"plan-{plan.fingerprint[:16]}.json"


def available_bytes() -> int:
    """Return the memory that a run may count on: the GPU's, or the machine's."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return memory_limit()


def least_bytes(plan: Plan) -> dict[str, Any]:
    """Return sizes that follow from the shape alone, and the memory that weights, gradients and optimiser need.

    AdamW holds two float32 numbers for each trained one; so a fully trained model takes 4 + 4 + 8 bytes a parameter.
    """
    import torch
    from accelerate import init_empty_weights
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from quintet.training.methods import peft_config

    base = AutoConfig.from_pretrained(plan.source)
    with init_empty_weights():
        model: Any = AutoModelForCausalLM.from_config(base)
        adapter = peft_config(plan.training, base)
        if adapter is not None:
            with torch.device("meta"):
                model = get_peft_model(model, adapter, low_cpu_mem_usage=True)
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    per_frozen = {QLORA: 0.6}.get(trained_by(plan.training), 2)
    optimiser = 0.1 if plan.training.optimizer == "adafactor" else 8
    return {
        "parameters": total,
        "trainable": trainable,
        "peak_bytes": int((total - trainable) * per_frozen + trainable * (8 + optimiser)),
    }


def _estimate(plan: Plan, measured: dict[str, Any], available: int) -> Estimate:
    steps = steps_of(plan.training, plan.objective, len(plan.rows))
    per_weight = 2 if trained_by(plan.training) == FULL else 4
    found = Estimate(
        department=plan.department,
        method=plan.training.method,
        objective=plan.objective,
        rows=len(plan.rows),
        epochs=plan.training.dpo.epochs if plan.objective == "dpo" else plan.training.epochs,
        tokens_per_epoch=sum(
            len(ids) for name in plan.rows.column_names if name != "labels" for ids in plan.rows[name]
        ),
        steps=steps,
        trainable=measured["trainable"],
        parameters=measured["parameters"],
        seconds=measured["seconds_per_step"] * steps,
        peak_bytes=measured["peak_bytes"],
        artifact_bytes=measured["trainable"] * per_weight,
        available_bytes=available,
    )
    return found if found.fits else Estimate(**{**asdict(found), "advice": _advice(plan)})


def _advice(plan: Plan) -> str:
    """Return the change that saves most of what does not fit."""
    method = trained_by(plan.training)
    if method == FULL:
        return (
            "method: lora, which holds one copy of the weights in place of eight; or optimizer: adafactor, which halves"
        )
    if method in (LORA, PREFIX):
        return "method: qlora, which holds the base in a quarter; or a smaller batch_size"
    return "a smaller batch_size with gradient_accumulation raised by as much; or a smaller base_model"


def deviation(expected: Estimate, seconds: float, peak: int | None) -> str:
    """Say how far a measured run was from what was expected of it."""
    told = f"planned {expected.seconds:.0f} s, took {seconds:.0f} s ({seconds / expected.seconds - 1:+.0%})"
    if peak is None:
        return told
    share = peak / expected.peak_bytes - 1
    return f"{told}; planned {expected.peak_bytes / 1e9:.1f} GB, took {peak / 1e9:.1f} GB ({share:+.0%})"
