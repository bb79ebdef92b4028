"""What a run's folder holds beside its weights, for people: the machine, the loss curve, the model card."""

from pathlib import Path

from quintet.config import Project
from quintet.files import write_json
from quintet.registry.losses import METRICS_FILE, read_curve
from quintet.registry.run_files import CURVE_FILE, ENVIRONMENT_FILE
from quintet.training.curve import draw_curve
from quintet.training.environment import describe_environment


def write_environment(run: Path, project: Project) -> None:
    """Keep what the run is made with: versions, hardware, commit."""
    write_json(run / ENVIRONMENT_FILE, describe_environment(project.root))


def draw_losses(run: Path) -> None:
    """Draw the losses that were logged, when there are any."""
    draw_curve(read_curve(run / METRICS_FILE), f"{run.parent.name}@{run.name}", run / CURVE_FILE)
