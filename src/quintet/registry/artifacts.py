"""Experts' files and their digests, and the object store that several machines share. Knows nothing of the database.

A store holds `<digest of the folder's content>/<file>`; `expert.json` is written last, so that what has one is whole.
What there is one of, such as a router, lies beside by its name.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from quintet.config import Project
from quintet.errors import ConfigError, MissingFilesError, RegistryError, UnreachableError
from quintet.files import flush, replacing

EXPERT_FILE = "expert.json"
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""What is installed for a URL, by how it begins."""
MODEL_CARD = "README.md"
"""Written anew after each evaluation, and therefore no part of what an expert is."""


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_contents(folder: Path) -> dict[str, str]:
    """Return the files of an expert's folder, the model card aside, with their SHA-256."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    return {name: digest_file(folder / name) for name in names if name != MODEL_CARD}


def digest_contents(contents: Mapping[str, str]) -> str:
    """Return one SHA-256 for files and their digests, as hex."""
    lines = "".join(f"{contents[name]} {name}\n" for name in sorted(contents))
    return hashlib.sha256(lines.encode()).hexdigest()


def open_store(project: Project) -> "ArtifactStore | None":
    """Return the project's object store, if it has one; raise ConfigError when its URL cannot be used."""
    return None if project.artifacts is None else ArtifactStore(project.artifacts, project.root)


class ArtifactStore:
    """A folder at any URL that fsspec knows; a plain path is relative to `root`."""

    def __init__(self, url: str, root: Path) -> None:
        import fsspec

        # What stands before an @ may be a secret.
        self.shown = re.sub(r"//[^/@]*@", "//", url.partition("?")[0])
        location = url if "://" in url else str((root / Path(url).expanduser()).absolute())
        try:
            self._files, self._path = fsspec.core.url_to_fs(location, use_listings_cache=False)
        except ImportError as error:
            extra = EXTRAS.get(location.partition("://")[0])
            needed = f"'quintet[{extra}]'" if extra else "what its file system needs"
            raise ConfigError(f"registry.artifacts: {self.shown}: {error}; pip install {needed}") from None
        except ValueError as error:
            raise ConfigError(f"registry.artifacts: {self.shown} cannot be used: {error}") from None

    def has(self, artifact: str) -> bool:
        """Return whether the folder of that digest is there, and whole."""
        with self._explained("look into"):
            return bool(self._files.exists(self._place(artifact, EXPERT_FILE)))

    def upload(self, folder: Path, contents: Mapping[str, str]) -> None:
        """Put an expert's files there, unless they are; raise UnreachableError when that fails."""
        artifact = digest_contents(contents)
        if self.has(artifact):
            return
        with self._explained("write to"):
            for name in sorted(contents, key=lambda name: (name == EXPERT_FILE, name)):
                place = self._place(artifact, name)
                self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(folder / name), place)

    def download(self, name: str, contents: Mapping[str, str], folder: Path) -> None:
        """Make the folder of the expert of that name, all of it at once, and each file as it was uploaded.

        Raises MissingFilesError, UnreachableError, or RegistryError for a file that is not what was uploaded.
        """
        artifact = digest_contents(contents)
        if not self.has(artifact):
            fix = f"nor does {self.shown} hold it; on the machine that has it: quintet release {name.replace('@', ' ')}"
            raise MissingFilesError(name, folder, fix)
        staged = folder.with_name(f"{folder.name}.fetch-{secrets.token_hex(4)}")
        try:
            for file, digest in contents.items():
                place = self._place(artifact, file)
                target = staged / file
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._explained("read from"):
                    self._files.get_file(place, str(target))
                found = digest_file(target)
                if found != digest:
                    raise RegistryError(
                        f"{place} in {self.shown} is damaged: expected the SHA-256 {digest[:12]}, found {found[:12]}; "
                        "delete it there, and release the expert again on a machine that has it"
                    )
            put_in_place(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def stamp(self, name: str) -> str | None:
        """Return what changes when the file of that name does, or None when there is none; raise UnreachableError."""
        place = f"{self._path.rstrip('/')}/{name}"
        with self._explained("look into"):
            return str(self._files.ukey(place)) if self._files.exists(place) else None

    def put(self, name: str, file: Path) -> None:
        """Put a file there by its name, in place of what has it; raise UnreachableError."""
        with self._explained("write to"):
            self._files.makedirs(self._path, exist_ok=True)
            self._files.put_file(str(file), f"{self._path.rstrip('/')}/{name}")

    def get(self, name: str, target: Path) -> None:
        """Fetch the file of that name; a reader of `target` sees the old one or the new. Raises UnreachableError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as staged, self._explained("read from"):
            self._files.get_file(f"{self._path.rstrip('/')}/{name}", str(staged))

    def _place(self, artifact: str, name: str) -> str:
        return f"{self._path.rstrip('/')}/{artifact}/{name}"

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system has errors of its own
            raise UnreachableError(
                f"cannot {doing} {self.shown}: {error}; check registry.artifacts, the network and your credentials"
            ) from error


def put_in_place(staged: Path, folder: Path) -> None:
    """Rename a finished folder to its own name, for good; one that is there already stays."""
    for path in [*staged.rglob("*"), staged]:
        flush(path)
    try:
        os.replace(staged, folder)
    except OSError:
        if not (folder / EXPERT_FILE).is_file():
            raise
    flush(folder.parent)
