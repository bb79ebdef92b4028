"""Files: written whole or not at all, and digested."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
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
    with replacing(path) as staged:
        staged.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path beside the file to write to; it takes the file's place at the end, and goes with an error.

    A reader sees the old file or the new one, never a part. With `durable`, not even a power cut leaves a part.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield staged
        if durable:
            flush(staged)
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the disk take what was written to a file or folder."""
    if path.is_dir() and os.name == "nt":
        return  # Windows flushes no folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
