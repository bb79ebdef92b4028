"""Makes a project folder from the sample company. Knows nothing of what the files mean."""

import shutil
from pathlib import Path

from quintet.config import CONFIG_NAME
from quintet.errors import ConfigError

SAMPLE = Path(__file__).parent / "sample"


def create_project(folder: Path) -> list[Path]:
    """Copy the sample company into a folder and return the files made; refuse to overwrite a project."""
    if (folder / CONFIG_NAME).exists():
        raise ConfigError(f"{folder / CONFIG_NAME} exists already; choose another folder, or delete it first")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose a folder")
    made = []
    for source in sorted(path for path in SAMPLE.rglob("*") if path.is_file()):
        target = folder / source.relative_to(SAMPLE)
        if target.exists():
            raise ConfigError(f"{target} exists already and would be overwritten; choose an empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        made.append(target)
    return made
