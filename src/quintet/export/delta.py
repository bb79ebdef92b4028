"""A fully fine-tuned expert → a low-rank delta of it, as a new version of its department. Measures no answers.

A full expert runs from weights of its own, in a forward of its own. Its delta is an adapter, which has a place in the
shared batch over the one base.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import yaml
from safetensors import SafetensorError

from quintet.config import Project
from quintet.errors import ExportError, MissingFilesError
from quintet.export.low_rank import WEIGHTS_FILE, Fit, Progress, check_rank, decompose, write_adapter
from quintet.files import digest_files, write_json
from quintet.models import base_model
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.registry.artifacts import EXPERT_FILE, MODEL_CARD
from quintet.registry.experts import (
    HELD_OUT_FILE,
    SETTINGS_FILE,
    Expert,
    describe_expert,
    list_experts,
    look_up,
    new_run,
    publish,
)
from quintet.registry.run_files import RUN_FILE, write_card
from quintet.training.methods import LORA
from quintet.training.records import write_environment

DELTA = "delta"
"""The method of a delta. It is worked out, not trained, so that training and a release of "the newest of the
department's method" do not take it for what was trained."""


def make_delta(project: Project, full: Expert, rank: int, progress: Progress | None = None) -> tuple[Expert, Fit]:
    """Publish the full expert's delta of a rank as the department's next version; one that is there already stands.

    Raises ExportError for an adapter, for a rank that wins nothing, and on a full disk; then nothing is left.
    """
    _check(project, full, rank)
    fingerprint = hashlib.sha256(f"{DELTA} {rank} {full.digest}".encode()).hexdigest()
    for known in list_experts(project, full.department):
        if known.fingerprint == fingerprint and known.is_whole:
            return known, Fit(**describe_expert(project, known.name)["settings"]["training"])
    began = time.monotonic()
    source = base_model.locate(project.config.base_model, project.root)
    dtype = base_model.own_dtype(str(full.folder))
    base = base_model.load_model(source, "cpu", base_model.own_dtype(source))
    check_rank(base, rank)
    parts, fit = decompose(base, base_model.load_model(str(full.folder), "cpu", dtype), rank, progress)
    with _new_run(project, full) as run:
        _write_settings(project, full, fit, fingerprint, run)
        folder = run / "expert.part"
        folder.mkdir()
        for file in full.folder.iterdir():
            if file.is_file() and file.name not in (*full.files, EXPERT_FILE, MODEL_CARD):
                shutil.copyfile(file, folder / file.name)
        staged = folder
        write_adapter(parts, rank, project.config.base_model, dtype, staged)
        look_up(project, full.name)  # raises if it was deleted meanwhile
        delta = publish(staged, _describe(full, fingerprint, staged, run, time.monotonic() - began), project)
    write_card(project, delta)
    return delta, fit


def _check(project: Project, full: Expert, rank: int) -> None:
    """Raise for all that can be told before a model is loaded."""
    if full.is_adapter:
        others = [one for one in list_experts(project, full.department) if not one.is_adapter]
        fix = f"take: quintet export {others[-1].name} --as-delta {rank}" if others else "serve it as it is"
        raise ExportError(
            f"{full.name} (method {full.method!r}) is an adapter, with no weights of its own to make a delta of; {fix}"
        )
    full.check_files()
    source = base_model.locate(project.config.base_model, project.root)
    full.check_base(base_model.base_digest(source), project.config.base_model)
    run = full.folder.parent
    for file in (run / SETTINGS_FILE, run / HELD_OUT_FILE, run / RUN_FILE):
        if not file.is_file():
            fix = "its run lies on another machine; make the delta there, or copy the run's folder from there"
            raise MissingFilesError(full.name, file, fix)


@contextmanager
def _new_run(project: Project, full: Expert) -> Iterator[Path]:
    """Give the folder of a new run, which goes with an error that leaves it without an expert."""
    run = new_run(project, full.department)
    try:
        yield run
    except (OSError, SafetensorError) as error:
        look_up(project, full.name)  # a file may be gone because the expert is
        raise ExportError(f"{run} cannot be written: {error}; free some space, and run the command again") from error
    finally:
        if not (run / "expert").exists():
            shutil.rmtree(run, ignore_errors=True)


def _write_settings(project: Project, full: Expert, fit: Fit, fingerprint: str, run: Path) -> None:
    """Keep what the delta is made of, and the questions that the full expert's training did not see."""
    origin = full.folder.parent
    settings = yaml.safe_load((origin / SETTINGS_FILE).read_text("utf-8")) | {"training": asdict(fit)}
    (run / SETTINGS_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    shutil.copyfile(full.held_out, run / HELD_OUT_FILE)
    known = json.loads((origin / RUN_FILE).read_text("utf-8"))
    write_json(run / RUN_FILE, known | {"fingerprint": fingerprint})
    write_environment(run, project)


def _describe(full: Expert, fingerprint: str, staged: Path, run: Path, seconds: float) -> Expert:
    files = (ADAPTER_CONFIG, WEIGHTS_FILE)
    return replace(
        full,
        version=int(run.name),
        method=DELTA,
        trained=LORA,
        parent=full.name,
        fingerprint=fingerprint,
        digest=digest_files(*(staged / name for name in files)),
        files=files,
        seconds=round(seconds, 1),
        peak_bytes=None,
        folder=run / "expert",
    )
