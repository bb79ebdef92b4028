"""Makes the first few steps of a run and prints what they took, as JSON. Run as a process of its own by `plan`."""

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from quintet.config import Project
from quintet.models import base_model
from quintet.models.peft_model import quietly
from quintet.training.memory import peak_bytes, reset_peak
from quintet.training.plan import stages
from quintet.training.preparation import plan_run
from quintet.training.run import build_trainer

# Many steps where they are short: memory grows with each new shape of a batch until most have been met.
STEPS, LONGEST_S = 80, 20.0


class _Clock(TrainerCallback):
    """Times each step but the first, which sets things up, and ends the run when enough are timed."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None
        self._began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now
        if self.seconds and now - self._began > LONGEST_S:
            control.should_training_stop = True


def main(root: str, department: str, method: str, objective: str) -> None:
    """Print the mean seconds of a step, the peak memory, and how many weights there are and are trained."""
    plan = next(p for p in stages(plan_run(Project.load(Path(root)), department, method)) if p.objective == objective)
    # Neither stops early nor tells a tracker.
    quiet = plan.training.model_copy(update={"patience": None, "trackers": ()})
    plan = replace(plan, training=quiet)
    device = base_model.pick_device()
    reset_peak(device)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder, quietly():
        trainer = build_trainer(plan, Path(folder), device)
        trainer.args.max_steps = STEPS
        trainer.args.save_strategy = trainer.args.eval_strategy = "no"
        trainer.add_callback(clock)
        trainer.train()
    model = trainer.model
    print(
        json.dumps(
            {
                "seconds_per_step": mean(clock.seconds),
                "peak_bytes": peak_bytes(device),
                "parameters": model.num_parameters(),
                "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            }
        )
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    main(*sys.argv[1:])
