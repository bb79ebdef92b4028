"""Makes a project folder from the sample company. Knows nothing of what the files mean."""

import shutil
from pathlib import Path

from quintet.config import CONFIG_NAME
from quintet.errors import ConfigError

SAMPLE = Path(__file__).parents[1] / "sample"


def create_project(folder: Path) -> list[Path]:
    """Copy the sample company into a folder and return the files made; refuse to overwrite a project."""
    if (folder / CONFIG_NAME).exists():
        raise ConfigError(f"{folder / CONFIG_NAME} exists already; choose another folder, or delete it first")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose a folder")
    files = {folder / file.relative_to(SAMPLE): file for file in SAMPLE.rglob("*") if file.is_file()}
    # A copy that was interrupted may go on: files that are the same already do not stand in the way.
    for target, source in files.items():
        if target.exists() and target.read_bytes() != source.read_bytes():
            raise ConfigError(f"{target} exists already and would be overwritten; choose an empty folder")
    # The config comes last: a folder that has one is whole.
    for target in sorted(files, key=lambda path: (path.name == CONFIG_NAME, path)):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[target], target)
    return sorted(files)
