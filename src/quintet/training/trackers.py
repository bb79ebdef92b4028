"""Who else is told of a run's progress, when the project names them: TensorBoard, MLflow, Weights & Biases."""

import os
from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations.integration_utils import MLflowCallback, TensorBoardCallback, WandbCallback

from quintet.config import TrainingConfig
from quintet.errors import ConfigError

TENSORBOARD_FOLDER = "tensorboard"
# A run is told to the tracker that was asked for, and about itself to nobody else.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


def check_trackers(training: TrainingConfig) -> None:
    """Raise ConfigError when the package of a named tracker is not installed."""
    for name in training.trackers:
        if find_spec(name) is None:
            raise ConfigError(f"training.trackers: {name!r} is not installed; install it: pip install {name}")


def trackers(training: TrainingConfig, run: Path) -> list[TrainerCallback]:
    """Return a callback for each named tracker; TensorBoard's files lie in the run's folder."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    return [_callback(name, run) for name in training.trackers]


def close_trackers(training: TrainingConfig) -> None:
    """End what is told of this run, so that the next one is told of by itself."""
    if "wandb" in training.trackers:
        import wandb

        wandb.finish()


def _callback(name: str, run: Path) -> TrainerCallback:
    if name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        return TensorBoardCallback(SummaryWriter(run / TENSORBOARD_FOLDER))
    return MLflowCallback() if name == "mlflow" else WandbCallback()
