"""Rows → a file that is there whole or not at all, and never in place of another. Knows nothing of what rows mean."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from quintet.errors import DataError
from quintet.files import replacing


def refuse_to_overwrite(*files: Path) -> None:
    """Raise DataError if a file is there already: somebody may have worked on it by hand."""
    for file in files:
        if file.suffix != ".jsonl":
            raise DataError([f"{file}: expected a name that ends with .jsonl; name another --out"])
        if os.path.lexists(file):
            raise DataError([f"{file} exists already and would be overwritten; name another --out, or move it away"])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows so that the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=True) as staged, staged.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
