"""Experts: `runs/<department>/<version>/expert/`, described by its `expert.json`, and a row of the registry for each.

The folder appears whole or not at all (written beside, then renamed), and that is when there is an expert. The row
follows; a folder that has none, because a process was killed in between or the database was lost, gets one when next
looked for.
"""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from quintet.config import Project
from quintet.errors import (
    MissingFilesError,
    ModelError,
    NotTrainedError,
    RegistryError,
    UnknownModelError,
    UnreachableError,
)
from quintet.files import digest_files
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.registry.artifacts import EXPERT_FILE, digest_contents, list_contents, open_store, put_in_place
from quintet.registry.audit import write_act
from quintet.registry.database import reading, writing
from quintet.registry.losses import METRICS_FILE, read_curve, thinned
from quintet.registry.tables import ExpertRow, LossesRow, NumberRow

HELD_OUT_FILE = "held_out.jsonl"
"""In a run's folder: the questions that its training did not see."""
HELD_OUT_PAIRS_FILE = "held_out_preferences.jsonl"
"""In a run's folder: the preferences that its training did not see."""
SETTINGS_FILE = "config.yaml"
"""In a run's folder: what it was made with."""
DELETED_FILE = "deleted.json"
"""In a run's folder: its expert was deleted. So the number stays taken even when the database is lost."""
TEMPLATE_FILE = "chat_template.jinja"


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
    created_at: datetime | None = field(default=None, compare=False)

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
        """Raise MissingFilesError naming the first file that is gone, or ModelError when the folder is another's."""
        for name in (*self.files, "tokenizer.json", EXPERT_FILE):
            if not (self.folder / name).is_file():
                fix = f"put it back or train again: quintet train {self.department} --force"
                raise MissingFilesError(self.name, self.folder / name, fix)
        described = read_expert(self.folder / EXPERT_FILE)
        if (described.name, described.digest) != (self.name, self.digest):
            raise ModelError(
                f"{self.folder} holds {described.name} ({described.digest[:12]}), and the registry's {self.name} is "
                f"{self.digest[:12]}: it was made elsewhere; move {self.folder.parent} away, so that it can be fetched"
            )


def list_experts(project: Project, department: str) -> list[Expert]:
    """Return the department's experts, oldest first; folders that have no row yet get one."""
    adopt(project, department)
    return _registered(project, ExpertRow.department == department)


def _registered(project: Project, condition: ColumnElement[bool]) -> list[Expert]:
    query = select(ExpertRow).where(ExpertRow.deleted_at.is_(None), condition)
    with reading(project) as session:
        rows = session.scalars(query.order_by(ExpertRow.department, ExpertRow.version))
        return [expert_of(project, row) for row in rows]


def newest_expert(project: Project, department: str) -> Expert | None:
    """Return the department's newest expert, if it has one, with its files fetched."""
    experts = list_experts(project, department)
    return fetch_expert(project, experts[-1]) if experts else None


def find_expert(project: Project, name: str) -> Expert:
    """Return the expert of a name such as `hr` (its newest) or `hr@1`, with its files fetched.

    Raises UnknownModelError, or NotTrainedError for a department without an expert.
    """
    department, at, _ = name.partition("@")
    check_department(project, name)
    experts = list_experts(project, department)
    if not at:
        if not experts:
            raise NotTrainedError(department, project.runs / department)
        return fetch_expert(project, experts[-1])
    return fetch_expert(project, look_up(project, name))


def look_up(project: Project, name: str) -> Expert:
    """Return the registered expert of a name such as `hr@1`, wherever its files are; raise UnknownModelError."""
    check_department(project, name)
    with reading(project) as session:
        row = find_row(session, name)
        if row is not None and row.deleted_at is None:
            return expert_of(project, row)
    experts = {expert.name: expert for expert in list_experts(project, name.partition("@")[0])}
    if name not in experts:
        raise UnknownModelError(name, [*project.models, *experts])
    return experts[name]


def check_department(project: Project, name: str) -> None:
    """Raise UnknownModelError when the project has no department of the name `hr` or `hr@1`."""
    if name.partition("@")[0] not in project.config.departments:
        raise UnknownModelError(name, project.models)


def fetch_expert(project: Project, expert: Expert) -> Expert:
    """Return the expert, its files fetched from the object store when they are not here and there is one.

    Raises ModelError when the folder holds another, RegistryError when what is fetched is damaged.
    """
    if (expert.folder / EXPERT_FILE).is_file():
        return expert
    store = open_store(project)
    if store is not None:
        with reading(project) as session:
            row = find_row(session, expert.name)
            contents = row.contents if row else {}
        expert.folder.parent.mkdir(parents=True, exist_ok=True)
        store.download(expert.name, contents, expert.folder)
    return expert


def upload_expert(project: Project, expert: Expert) -> None:
    """Put the expert into the object store, when there is one and it is not there."""
    store = open_store(project)
    if store is not None:
        store.upload(expert.folder, list_contents(expert.folder))


def read_expert(file: Path) -> Expert:
    """Return the expert that an expert.json describes; raise ModelError when it cannot be read."""
    try:
        values = json.loads(file.read_text("utf-8"))
        made = values.pop("created_at", None)
        moment = datetime.fromisoformat(made) if made else datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return Expert(**{**values, "files": tuple(values["files"])}, folder=file.parent, created_at=moment)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{file} cannot be read ({error}); delete its run folder and train again") from None


def new_run(project: Project, department: str) -> Path:
    """Make and return the folder of the next run: its number is above any that the registry or this machine has."""
    parent = project.runs / department
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        run = parent / str(_next_number(project, department))
        # Someone may have made the folder by hand in between.
        with suppress(FileExistsError):
            run.mkdir()
            return run


def _next_number(project: Project, department: str) -> int:
    with writing(project) as session:
        local = [int(folder.name) for folder in (project.runs / department).iterdir() if folder.name.isdigit()]
        given = session.get(NumberRow, department)
        number = 1 + max([*local, given.last if given else 0])
        _give_out(session, department, number)
        return number


def _give_out(session: Session, department: str, number: int) -> None:
    """Have no later run get this number, or one below it."""
    given = session.get(NumberRow, department)
    if given is None:
        session.add(NumberRow(department=department, last=number))
    else:
        given.last = max(given.last, number)


def publish(staged: Path, expert: Expert, project: Project | None = None) -> Expert:
    """Write expert.json into the staged folder, rename it to the expert's own, and register it.

    Once renamed, there is an expert: when registering fails, it is done when experts are next listed. Without
    `project`, the quintet.yaml above the folder says which registry. Raises RegistryError when there is one already.
    """
    project = project or Project.load(expert.folder.parents[3])
    # A version is one expert for good: answers, evaluations and other machines name it.
    for file in (expert.folder / EXPERT_FILE, expert.folder.parent / DELETED_FILE):
        if file.exists():
            raise RegistryError(
                f"expected a new version, found {expert.name} in {file}; a number is given out once: "
                f"train again: quintet train {expert.department} --force"
            )
    expert = replace(expert, created_at=datetime.now(UTC))
    values = {key: value for key, value in asdict(expert).items() if key != "folder"}
    (staged / EXPERT_FILE).write_text(json.dumps(values, indent=2, default=datetime.isoformat) + "\n", encoding="utf-8")
    shutil.rmtree(expert.folder, ignore_errors=True)
    put_in_place(staged, expert.folder)
    try:
        _register(project, expert, "publish")
    except UnreachableError as error:
        raise UnreachableError(
            f"{error}. {expert.name} is whole in {expert.folder}, and is registered when experts are next listed: "
            f"quintet experts list {expert.department}"
        ) from error
    return expert


def adopt(project: Project, department: str) -> None:
    """Register the experts on this machine that the registry does not know; raise ModelError for one it cannot."""
    files = (project.runs / department).glob(f"*/expert/{EXPERT_FILE}")
    local = {int(file.parents[1].name): file for file in files if file.parents[1].name.isdigit()}
    if not local:
        return
    with reading(project) as session:
        known = set(session.scalars(select(ExpertRow.version).where(ExpertRow.department == department)))
    for version in sorted(local.keys() - known):
        if not (local[version].parents[1] / DELETED_FILE).exists():
            file = local[version]
            expert = read_expert(file)
            run = file.parents[1]
            if expert.name != f"{run.parent.name}@{run.name}":
                raise ModelError(
                    f"{file} describes {expert.name}, found where {run.parent.name}@{run.name} belongs; "
                    f"move {run} out of {run.parent}"
                )
            _register(project, expert, "adopt")


def _register(project: Project, expert: Expert, act: str) -> None:
    """Give the expert its row, and before it what other machines need to fetch it."""
    contents = list_contents(expert.folder)
    upload_expert(project, expert)
    with writing(project) as session:
        row = find_row(session, expert.name)
        if row is None:
            session.add(row := _row_of(expert, contents))
            session.flush()
            curve = read_curve(expert.folder.parent / METRICS_FILE)
            training, held_out = ([list(point) for point in thinned(one)] for one in (curve.training, curve.held_out))
            if training or held_out:
                session.add(LossesRow(expert_id=row.id, training=training, held_out=held_out))
            _give_out(session, expert.department, expert.version)
            write_act(session, act, expert.department, expert.version, digest=expert.digest)
        elif row.deleted_at is not None or row.artifact != digest_contents(contents):
            raise RegistryError(
                f"{expert.folder} was to become {expert.name}, and the registry has had another of that name since "
                f"{row.created_at:%Y-%m-%d %H:%M}; move {expert.folder.parent} away and train again"
            )


def _row_of(expert: Expert, contents: Mapping[str, str]) -> ExpertRow:
    values = asdict(expert)
    settings = expert.folder.parent / SETTINGS_FILE
    return ExpertRow(
        **{key: value for key, value in values.items() if key not in ("folder", "files")},
        files=list(expert.files),
        contents=dict(contents),
        artifact=digest_contents(contents),
        template_digest=contents.get(TEMPLATE_FILE),
        settings=(yaml.safe_load(settings.read_text("utf-8")) or {}) if settings.is_file() else {},
        metrics={},
    )


def find_row(session: Session, name: str) -> ExpertRow | None:
    """Return the row of a name such as `hr@1`, deleted or not."""
    department, _, version = name.partition("@")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        return None
    query = select(ExpertRow).where(ExpertRow.department == department, ExpertRow.version == int(version))
    return session.scalar(query)


def expert_of(project: Project, row: ExpertRow) -> Expert:
    """Return the expert that a row tells of, in the folder that it has on this machine."""
    names = Expert.__dataclass_fields__.keys() - {"folder", "files"}
    folder = project.runs / row.department / str(row.version) / "expert"
    return Expert(**{name: getattr(row, name) for name in names}, files=tuple(row.files), folder=folder)


def describe_expert(project: Project, name: str) -> dict[str, Any]:
    """Return all that the registry knows of an expert such as `hr@1`, as plain values."""
    look_up(project, name)
    with reading(project) as session:
        row = find_row(session, name)
        values = {column.name: getattr(row, column.name) for column in ExpertRow.__table__.columns}
    del values["id"], values["deleted_at"]
    return {"expert": name, **values, "created_at": values["created_at"].isoformat()}


def record_metrics(project: Project, name: str, metrics: Mapping[str, Any]) -> None:
    """Keep what an evaluation of an expert such as `hr@1` measured, in place of what was kept before."""
    with writing(project) as session:
        row = find_row(session, name)
        if row is None:
            raise UnknownModelError(name, project.models)
        row.metrics = dict(metrics)
