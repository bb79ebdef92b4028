"""Holds the files of experts against their digests. Mends nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from quintet.config import Project
from quintet.errors import ModelError
from quintet.registry.artifacts import ArtifactStore, digest_file, open_store
from quintet.registry.database import reading
from quintet.registry.experts import adopt
from quintet.registry.releases import live
from quintet.registry.tables import ExpertRow


@dataclass(frozen=True)
class Damage:
    """Something of an expert that is not as it was registered: where, what was found, and what mends it."""

    expert: str
    path: str
    found: str
    fix: str


def verify(project: Project, department: str) -> list[Damage]:
    """Return all that is damaged of a department's experts; raise UnreachableError when a store does not answer."""
    store = open_store(project)
    try:
        adopt(project, department)
        damages = []
    except ModelError as error:
        fix = "delete its run's folder, or move it away"
        damages = [Damage(department, str(project.runs / department), str(error), fix)]
    with reading(project) as session:
        query = select(ExpertRow).where(ExpertRow.department == department).order_by(ExpertRow.version)
        rows = list(session.scalars(query))
    released = live(project, department)
    for row in rows:
        needed = released is not None and row.version in released.versions
        damages += _verify_one(row, project.runs / department / str(row.version) / "expert", store, needed)
    return damages


def _verify_one(row: ExpertRow, folder: Path, store: ArtifactStore | None, needed: bool) -> Iterator[Damage]:
    name = f"{row.department}@{row.version}"
    if row.deleted_at is not None:
        if folder.exists():
            yield Damage(
                name, str(folder), "was deleted, and its files are still here", f"quintet experts delete {name}"
            )
        return
    stored = store is not None and store.has(row.artifact)
    if store is not None and needed and not stored:
        fix = f"on the machine that has it: quintet release {row.department} {row.version}"
        yield Damage(name, f"{store.shown}/{row.artifact}", "is released, and the store does not hold it", fix)
    if stored and not folder.exists():
        return  # it is fetched when it is needed
    train = f"put it back from a backup, or train again: quintet train {row.department} --force"
    fix = f"delete {folder}: it is fetched again when it is needed" if stored else train
    for file, digest in row.contents.items():
        if found := _compare(folder / file, digest):
            yield Damage(name, str(folder / file), found, fix)


def _compare(path: Path, digest: str) -> str | None:
    """Return what is wrong with a file, if anything is."""
    if not path.is_file():
        return "is gone"
    found = digest_file(path)
    return None if found == digest else f"has the SHA-256 {found[:12]}, expected {digest[:12]}"
