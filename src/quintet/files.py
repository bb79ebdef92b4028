"""Files: written whole or not at all, and digested."""

import hashlib
import json
import os
from pathlib import Path

_PIECE = 2**24
"""What is read and digested at once: after each, beside a thread that computes, Python makes this one wait its turn."""


def digest_files(*paths: Path) -> str:
    """Return the SHA-256 of the files' names and contents, as hex."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0")
        found, piece = hashlib.sha256(), bytearray(_PIECE)
        with path.open("rb", buffering=0) as stream:
            while length := stream.readinto(piece):
                found.update(memoryview(piece)[:length])
        total.update(found.digest())
    return total.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    staged = path.with_suffix(".tmp")
    staged.write_text(text, encoding="utf-8")
    os.replace(staged, path)
