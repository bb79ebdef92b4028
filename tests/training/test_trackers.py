"""Progress is told to a tracker that the project names, and to none that it does not."""

from pathlib import Path

import pytest

from quintet.config import Project
from quintet.errors import ConfigError
from quintet.training.preparation import plan_run
from quintet.training.run import train
from tests.training.test_every_method import configure


def test_tensorboard_gets_the_losses_beside_the_run(project: Project) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    project = configure(project, epochs=4, logging_steps=1, trackers=["tensorboard"])
    train(project, plan_run(project, "hr"))
    events = event_accumulator.EventAccumulator(str(project.runs / "hr" / "1" / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 4


def test_nobody_is_told_unless_named(project: Project) -> None:
    project = configure(project, epochs=1)
    train(project, plan_run(project, "hr"))
    made = {path.name for path in (project.runs / "hr" / "1").iterdir()}
    assert made <= {
        "config.yaml",
        "environment.json",
        "expert",
        "held_out.jsonl",
        "loss.png",
        "metrics.jsonl",
        "run.json",
    }
    assert {path.name for path in project.root.iterdir()} == {"departments", "quintet.db", "quintet.yaml", "runs"}


def test_mlflow_gets_the_losses_where_its_own_variables_say(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    project = configure(project, epochs=4, logging_steps=1, trackers=["mlflow"])
    train(project, plan_run(project, "hr"))
    (found,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert found.info.run_name == "hr@1"
    assert len(mlflow.MlflowClient().get_metric_history(found.info.run_id, "loss")) == 4


def test_a_tracker_that_is_not_installed_stops_before_anything_is_made(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quintet.training.trackers.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        plan_run(configure(project, trackers=["wandb"]), "hr")
