"""One file from anybody, read by a process of its own: `python -m quintet.data.documents.alone NAME < FILE`.

A file may be made to take forever, or all memory, or to crash a parser. Here it takes this process alone, which on
Linux has so much memory and no more (Windows has no such bound, macOS refuses it); whoever started it waits as long as
they like. Prints JSON: `text` and `notes`, or `problem`.
"""

import csv
import io
import json
import sys
from pathlib import Path

from quintet.data.documents.reading import READERS, UnreadableFileError, decode, read_bytes
from quintet.data.documents.tables import markdown_table
from quintet.errors import QuintetError

MEMORY = 2_000_000_000
SEPARATORS = ",;\t|"


def read_csv(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return a table as a Markdown table, whatever separates its cells."""
    text = decode(data)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:4096], SEPARATORS)
    except csv.Error:
        dialect = csv.excel
    return markdown_table(list(csv.reader(io.StringIO(text), dialect))), ()


KINDS = {**READERS, ".csv": read_csv, ".tsv": read_csv}
"""What can be read, by the end of its name."""


def read_alone(name: str, data: bytes) -> dict[str, object]:
    """Return the text of a file and the notes on it, or why there is none."""
    try:
        found = read_bytes(data, name, KINDS[Path(name).suffix.lower()])
    except UnreadableFileError as error:
        return {"problem": str(error)}
    except QuintetError as error:
        return {"missing": str(error)}
    except MemoryError:
        return {"problem": "takes too much memory to be read; save a smaller part of it"}
    return {"text": found.text, "notes": list(found.notes)}


if __name__ == "__main__":
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    json.dump(read_alone(sys.argv[1], sys.stdin.buffer.read()), sys.stdout)
