"""Experts of several methods on the tiny base, each trained for a moment."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from quintet.config import Project
from quintet.registry.experts import Expert
from quintet.training.preparation import plan_run
from quintet.training.run import train
from tests.conftest import write_project

METHODS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 0.005, "epochs": 15},
    "lora": {"epochs": 20},
    "lora with DoRA and rsLoRA": {"lora": {"rank": 8, "alpha": 16, "dora": True, "rslora": True}, "epochs": 8},
    "qlora": {"epochs": 8},
    "ia3": {"epochs": 8},
    "adalora": {"peft_options": {"total_step": 8, "tinit": 2, "tfinal": 2, "init_r": 8, "target_r": 7}, "epochs": 8},
    "prefix": {"epochs": 3, "prefix": {"virtual_tokens": 8}},
    "prompt": {"epochs": 3},
    "p_tuning": {"epochs": 3},
}
Trained = tuple[Project, Expert]
TrainBy = Callable[[str], Trained]


def train_by(root: Path, base: Path, name: str) -> Trained:
    project = write_project(root / "company", base)
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["training"] |= {"method": name.split(" ")[0], **METHODS[name]}
    path.write_text(yaml.safe_dump(values))
    project = Project.load(project.root)
    return project, train(project, plan_run(project, "hr"))


@pytest.fixture(scope="package")
def by(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> TrainBy:
    """Trains by a method once for all tests, none of which may change what it made."""
    return cache(lambda name: train_by(tmp_path_factory.mktemp("trained"), tiny_base, name))


@pytest.fixture(scope="package")
def lora(by: TrainBy) -> Trained:
    return by("lora")


@pytest.fixture(scope="package")
def full(by: TrainBy) -> Trained:
    return by("full")


@pytest.fixture(scope="package")
def prefix(by: TrainBy) -> Trained:
    return by("prefix")
