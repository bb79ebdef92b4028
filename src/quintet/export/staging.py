"""A folder that appears whole or not at all. Knows nothing of what is in it, but for the file that marks an export."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quintet.errors import ExportError

EXPORT_FILE = "export.json"
"""What an export is; only a folder that has it is ever replaced."""


def check_target(target: Path, *, force: bool) -> None:
    """Raise ExportError when the folder may not be written."""
    if not target.exists() or _is_empty(target):
        return
    if not (target / EXPORT_FILE).is_file():
        raise ExportError(f"{target} is there and is no export of Quintet's; name another folder by --to")
    if not force:
        raise ExportError(f"{target} holds an export already; pass --force to replace it, or name another by --to")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder beside the target to write to; it takes the target's place at the end, or goes with the error."""
    missing = [folder for folder in target.parents if not folder.exists()]
    folder = target.with_name(f".{target.name}.{os.getpid()}.part")
    folder.mkdir(parents=True)
    try:
        yield folder
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        if target.exists():
            target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in missing:
            parent.rmdir() if _is_empty(parent) else None
        raise


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None
