"""Files → rows of named values: JSON lines, JSON, CSV, Parquet, or a folder of them.

Every row of a file comes out as a Row or as a Refusal, in order; a file that cannot be read at all is a DataError.
Knows nothing of what the columns mean.
"""

import codecs
import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from quintet.data.examples import Place, Refusal
from quintet.errors import DataError

LONGEST_LINE = 16 * 2**20
"""Bytes. A line above it is refused unread: no row is that long, and a file without line ends would fill the memory."""


@dataclass(frozen=True)
class RawRow:
    """The values of one row, by column."""

    place: Place
    values: dict[str, Any]


def read_rows(file: Path) -> Iterator[RawRow | Refusal]:
    """Yield every row of one file; raise DataError when the file is of no known kind or cannot be read."""
    read = READERS.get(file.suffix.lower())
    if read is None:
        raise DataError([f"{file}: expected a file that ends in {_kinds()}; convert it and name the new file"])
    try:
        yield from read(file)
    except OSError as error:
        raise DataError([f"{file} cannot be read: {error.strerror or error}"]) from None


def data_files(path: Path) -> list[Path]:
    """Return the file itself, or the data files of a folder in the order of their names; hidden ones are passed over.

    Raises DataError when there is none, or when a folder holds files of another kind: they would be left out unseen.
    """
    try:
        is_folder = path.stat() and path.is_dir()
    except FileNotFoundError:
        raise DataError([f"{path} does not exist; expected the file or folder that quintet.yaml names"]) from None
    except OSError as error:
        raise DataError([f"{path} cannot be read: {error.strerror or error}"]) from None
    files = _walk(path) if is_folder else [path]
    if strange := [file for file in files if file.suffix.lower() not in READERS]:
        raise DataError([f"{file}: expected a file that ends in {_kinds()}; convert or move it" for file in strange])
    if not files:
        raise DataError([f"{path}: the folder has no data files; expected files that end in {_kinds()}"])
    return files


def _walk(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise DataError([f"{error.filename} cannot be read: {error.strerror}"])

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in names if not name.startswith(".")]
    return sorted(found)


def _kinds() -> str:
    return ", ".join(READERS)


def _json_lines(file: Path) -> Iterator[RawRow | Refusal]:
    with file.open("rb") as stream:
        for number, raw in enumerate(_lines(stream, file), 1):
            place = Place(file, number)
            if isinstance(raw, str):
                yield Refusal(place, raw)
            elif raw.strip():
                yield _parse(raw.rstrip(b"\r\n"), place)


def _lines(stream: BinaryIO, file: Path) -> Iterator[bytes | str]:
    """Yield each line, or why it is refused, without ever holding more than the longest line allowed."""
    first = stream.read(3)
    if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError([f"{file} is UTF-16; save it as UTF-8"])
    if first != codecs.BOM_UTF8:
        stream.seek(0)
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE)
        yield f"the line is longer than {LONGEST_LINE // 2**20} MiB; expected one JSON object a line"


class _RepeatedKeyError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RepeatedKeyError(f"the key {twice!r} stands twice in one object; keep one")
    return values


def _parse(raw: bytes, place: Place) -> RawRow | Refusal:
    try:
        values = json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return Refusal(place, f"not UTF-8 at byte {error.start + 1}; save the file as UTF-8")
    except json.JSONDecodeError as error:
        return Refusal(place, f"not valid JSON at column {error.colno}: {error.msg}; mend or remove the row")
    except _RepeatedKeyError as error:
        return Refusal(place, str(error))
    except (ValueError, RecursionError) as error:
        return Refusal(place, f"not usable JSON: {error}; mend or remove the row")
    return _row(values, place)


def _row(values: Any, place: Place) -> RawRow | Refusal:
    if isinstance(values, dict):
        return RawRow(place, values)
    return Refusal(place, f"expected a JSON object, found {shown(values)}")


def shown(value: object) -> str:
    """Return a value as a message can show it: as JSON, cut after 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _json(file: Path) -> Iterator[RawRow | Refusal]:
    try:
        items = json.loads(_decoded(file), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise DataError(
            [f"{file}:{error.lineno}: not valid JSON at column {error.colno}: {error.msg}; mend the file, or name it "
             ".jsonl when it has one object a line"]
        ) from None  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise DataError([f"{file}: not usable JSON: {error}; mend the file"]) from None
    if not isinstance(items, list):
        raise DataError([f"{file}: expected a list of objects, found {shown(items)}"])
    for number, item in enumerate(items, 1):
        yield _row(item, Place(file, number, "item"))


def _decoded(file: Path) -> str:
    raw = file.read_bytes()
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError([f"{file} is UTF-16; save it as UTF-8"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError([f"{file}:{line}: not UTF-8 at byte {error.start + 1}; save the file as UTF-8"]) from None


def _csv(file: Path) -> Iterator[RawRow | Refusal]:
    csv.field_size_limit(LONGEST_LINE)
    with file.open("rb") as stream:
        # Bytes that are no UTF-8 become lone surrogates, so that one bad row does not hide those after it.
        text = (line.decode("utf-8", "surrogateescape") for line in _text_lines(stream, file))
        first = next(text, "")
        reader = csv.reader(_after(first, text), delimiter=max(",;\t", key=first.count), strict=True)
        header = _header(reader, file)
        while True:
            place = Place(file, reader.line_num + 1)
            try:
                fields = next(reader, None)
            except csv.Error as error:
                yield Refusal(place, f"not valid CSV: {error}; mend the quotes of this row")
                continue
            if fields is None:
                return
            if fields:
                yield _fields_row(fields, header, place)


def _text_lines(stream: BinaryIO, file: Path) -> Iterator[bytes]:
    for number, line in enumerate(_lines(stream, file), 1):
        if isinstance(line, str):
            raise DataError([f"{file}:{number}: the line is longer than {LONGEST_LINE // 2**20} MiB; is this a CSV?"])
        yield line


def _after(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _header(reader: Any, file: Path) -> list[str]:
    try:
        header: list[str] = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise DataError([f"{file}:1: not valid CSV: {error}"]) from None
    if not header:
        return []
    for number, name in enumerate(header, 1):
        if not name or name in header[: number - 1]:
            problem = "is empty" if not name else f"{name!r} stands twice"
            raise DataError([f"{file}:1: the name of column {number} {problem}; the first line must name the columns"])
    return header


def _fields_row(fields: list[str], header: list[str], place: Place) -> RawRow | Refusal:
    if len(fields) != len(header):
        return Refusal(
            place,
            f"the row has {len(fields)} fields, the header has {len(header)}; quote fields that hold the separator",
        )
    if any("\udc80" <= character <= "\udcff" for field in fields for character in field if not field.isascii()):
        return Refusal(place, "not UTF-8; save the file as UTF-8")
    return RawRow(place, dict(zip(header, fields, strict=True)))


def _parquet(file: Path) -> Iterator[RawRow | Refusal]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield RawRow(Place(file, number, "row"), values)
    # Values that Python cannot hold, such as a date in the year 30000, are ValueError or OverflowError.
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError([f"{file}: not a Parquet file that can be read: {str(error).splitlines()[0]}"]) from None


READERS: dict[str, Callable[[Path], Iterator[RawRow | Refusal]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
