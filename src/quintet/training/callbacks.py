"""What happens beside the steps: metrics are kept, the caller is told, a loss that is no number ends the run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from quintet.errors import TrainingError

Progress = Callable[[int, int, float | None], None]
"""Called with the step, the number of steps, and the last loss."""


class Reporter(TrainerCallback):
    """Writes metrics.jsonl and tells the caller of each step."""

    def __init__(self, progress: Progress | None, metrics: Path) -> None:
        self._progress = progress
        self._metrics = metrics
        self._loss: float | None = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append what was logged; raise TrainingError when the loss is not a number any more."""
        logs = kwargs["logs"]
        self._loss = logs.get("loss", self._loss)
        if state.is_world_process_zero:
            with self._metrics.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        if self._loss is not None and not math.isfinite(self._loss):
            raise TrainingError(
                f"the loss is {self._loss} at step {state.global_step}: the weights have run away; lower "
                f"training.learning_rate (it is {args.learning_rate:g}) and train again"
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step."""
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps, self._loss)


class RankAllocator(TrainerCallback):
    """Lets AdaLoRA move ranks between layers (Zhang et al. 2023), which it does only when told of each step."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell it."""
        tuner = getattr(kwargs["model"], "base_model", None)
        if tuner is not None and hasattr(tuner, "update_and_allocate"):
            tuner.update_and_allocate(state.global_step)
