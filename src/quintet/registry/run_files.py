"""Files of a run's folder that say what it was: their names, and the model card."""

import json

import yaml

from quintet.config import Project
from quintet.files import write_text
from quintet.registry.experts import SETTINGS_FILE, Expert
from quintet.registry.model_card import CardFacts, model_card

RUN_FILE = "run.json"


ENVIRONMENT_FILE, CURVE_FILE = "environment.json", "loss.png"


def write_card(
    project: Project, expert: Expert, scores: dict[str, tuple[float, float]] | None = None, asked: int | None = None
) -> None:
    """Write the expert's README.md from what its run's folder tells; `scores` are metric → (base, expert), over
    so many questions `asked`.
    """
    run = expert.folder.parent
    settings = yaml.safe_load((run / SETTINGS_FILE).read_text("utf-8"))
    about = project.config.departments.get(expert.department)
    text = model_card(
        CardFacts(
            department=expert.department,
            name=expert.name,
            company=project.config.company,
            description=about.description if about else "",
            base_model=expert.base_model,
            method=expert.method,
            objective=expert.objective,
            is_adapter=expert.is_adapter,
            parent=expert.parent,
            settings=settings["training"],
            rows_trained=settings["rows"]["train"],
            rows_held_out=settings["rows"]["held_out"] if asked is None else asked,
            seconds=expert.seconds,
            peak_bytes=expert.peak_bytes,
            environment=json.loads((run / ENVIRONMENT_FILE).read_text("utf-8")),
            data_digest=expert.data_digest,
            digest=expert.digest,
            scores=scores,
            end_ids=tuple(json.loads((run / RUN_FILE).read_text("utf-8"))["end_ids"]),
        )
    )
    write_text(expert.folder / "README.md", text)
