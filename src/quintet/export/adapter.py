"""An adapter's folder → the same for other people's machines, in PEFT's own format."""

import json
import shutil
from pathlib import Path

from quintet.config import Project
from quintet.errors import ExportError
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.models.base_model import NANO
from quintet.registry.artifacts import EXPERT_FILE
from quintet.registry.experts import Expert


def check_adapter(expert: Expert) -> None:
    """Raise ExportError for an expert that is none."""
    if not expert.is_adapter:
        raise ExportError(
            f"{expert.name} was trained by {expert.trained!r} and has all weights of its own, so there is no adapter; "
            f"take: quintet export {expert.name} --format merged"
        )


def write_adapter(project: Project, expert: Expert, folder: Path) -> None:
    """Copy the adapter, its tokenizer and its card, and name the base as it is known elsewhere."""
    for file in expert.folder.iterdir():
        if file.is_file() and file.name != EXPERT_FILE and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    path = folder / ADAPTER_CONFIG
    settings = json.loads(path.read_text("utf-8"))
    settings["base_model_name_or_path"] = base_elsewhere(project, expert)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def base_elsewhere(project: Project, expert: Expert) -> str:
    """Return the base's hub id, or words that say how to name a base that no hub has."""
    base = expert.base_model
    if base == NANO:
        return "nano, the folder nano/weights of the Python package quintet; README.md tells how to load it"
    if (project.root / Path(base).expanduser()).is_dir():
        return f"{Path(base).name}, a folder: name your copy of it when you load this adapter, as README.md does"
    return base


def is_on_hub(project: Project, expert: Expert) -> bool:
    """Whether the base is named as a model hub knows it."""
    return base_elsewhere(project, expert) == expert.base_model
