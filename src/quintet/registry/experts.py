"""Experts on disk: `runs/<department>/<version>/expert/`, described by its `expert.json`.

The folder appears whole or not at all (written beside, then renamed), so that what is listed can be served.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from quintet.config import Project
from quintet.errors import MissingFilesError, ModelError, NotTrainedError, UnknownModelError

BASE = "base"
"""The name of the bare base, where an expert's could stand."""
EXPERT_FILE = "expert.json"
ADAPTER_CONFIG = "adapter_config.json"
HELD_OUT_FILE = "held_out.jsonl"
"""In a run's folder: the questions that its training did not see."""
HELD_OUT_PAIRS_FILE = "held_out_preferences.jsonl"
"""In a run's folder: the preferences that its training did not see."""


@dataclass(frozen=True)
class Expert:
    """What a run produced, and what made it.

    `trained` is what was trained (`method`, or what DPO trained), `objective` what was minimised, `parent` the expert
    that it started from. `files` are the weights and their config; `digest` covers those, `data_digest` the trained
    rows, `fingerprint` the rows, the settings and the base.
    """

    department: str
    version: int
    method: str
    trained: str
    objective: str
    parent: str | None
    base_model: str
    base_digest: str
    data_digest: str
    fingerprint: str
    digest: str
    files: tuple[str, ...]
    seconds: float
    peak_bytes: int | None
    examples: int
    folder: Path

    @property
    def name(self) -> str:
        """Department and version, as in `hr@3`."""
        return f"{self.department}@{self.version}"

    @property
    def megabytes(self) -> float:
        """Size of the weights on disk, in 10^6 bytes."""
        weights = [self.folder / name for name in self.files if name.endswith(".safetensors")]
        return sum(file.stat().st_size for file in weights) / 1e6

    @property
    def is_adapter(self) -> bool:
        """Whether the expert is an adapter over the base; else it has all weights of its own."""
        return ADAPTER_CONFIG in self.files

    @property
    def is_whole(self) -> bool:
        """Whether the files are there and are those that were trained."""
        files = [self.folder / name for name in self.files]
        return all(file.is_file() for file in files) and digest_files(*files) == self.digest

    @property
    def held_out(self) -> Path:
        """The file of the questions that its training did not see."""
        return self.folder.parent / HELD_OUT_FILE

    @property
    def held_out_pairs(self) -> Path:
        """The file of the preferences that its training did not see; only DPO has one."""
        return self.folder.parent / HELD_OUT_PAIRS_FILE

    def check_base(self, digest: str, name: str) -> None:
        """Raise ModelError when the base in use is not the one that the expert was trained on."""
        if self.base_digest != digest:
            raise ModelError(
                f"expert {self.name!r} was trained on the base {self.base_model!r} ({self.base_digest[:12]}), and "
                f"{name!r} is in use now ({digest[:12]}); train again: quintet train {self.department}"
            )

    def check_files(self) -> None:
        """Raise MissingFilesError naming the first file that is gone."""
        for name in (*self.files, "tokenizer.json"):
            if not (self.folder / name).is_file():
                fix = f"put it back or train again: quintet train {self.department} --force"
                raise MissingFilesError(self.name, self.folder / name, fix)


def digest_files(*paths: Path) -> str:
    """Return the SHA-256 of the files' names and contents, as hex."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def list_experts(project: Project, department: str) -> list[Expert]:
    """Return the department's experts, oldest first."""
    files = (project.runs / department).glob(f"*/expert/{EXPERT_FILE}")
    return sorted((read_expert(file) for file in files), key=lambda expert: expert.version)


def newest_expert(project: Project, department: str) -> Expert | None:
    """Return the department's newest expert, if it has one."""
    return next(reversed(list_experts(project, department)), None)


def read_expert(file: Path) -> Expert:
    """Return the expert that an expert.json describes; raise ModelError when it cannot be read."""
    try:
        values = json.loads(file.read_text("utf-8"))
        return Expert(**{**values, "files": tuple(values["files"])}, folder=file.parent)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{file} cannot be read ({error}); delete its run folder and train again") from None


def find_expert(project: Project, name: str) -> Expert:
    """Return the expert of a name such as `hr` (its newest) or `hr@1`.

    Raises UnknownModelError, or NotTrainedError for a department without an expert.
    """
    department, at, _ = name.partition("@")
    if department not in project.config.departments:
        raise UnknownModelError(name, [*project.config.departments, BASE])
    experts = list_experts(project, department)
    if not at:
        if not experts:
            raise NotTrainedError(department, project.runs / department)
        return experts[-1]
    found = next((expert for expert in experts if expert.name == name), None)
    if found is None:
        raise UnknownModelError(name, [*project.config.departments, BASE, *(expert.name for expert in experts)])
    return found


def new_run(project: Project, department: str) -> Path:
    """Make and return the folder of the next run: one above the highest there is."""
    parent = project.runs / department
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        taken = [int(folder.name) for folder in parent.iterdir() if folder.name.isdigit()]
        run = parent / str(max(taken, default=0) + 1)
        # Another process may have taken the number in between.
        with suppress(FileExistsError):
            run.mkdir()
            return run


def publish(staged: Path, expert: Expert) -> Expert:
    """Write expert.json into the staged folder and rename it to the expert's own."""
    values = {key: value for key, value in asdict(expert).items() if key != "folder"}
    (staged / EXPERT_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(expert.folder, ignore_errors=True)
    os.replace(staged, expert.folder)
    return expert


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(staged, path)
