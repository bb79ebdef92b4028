"""Files from anybody are read by a process of its own, with their tables kept."""

import json
import subprocess
import sys

import pytest

from quintet.data.documents.alone import read_alone


def test_a_table_stays_a_table_whatever_separates_it() -> None:
    table = "| place | price |\n| --- | --- |\n| Hull, North | 3 |"
    for text in ('place,price\n"Hull, North",3\n', "place;price\nHull, North;3\n", "place\tprice\nHull, North\t3\n"):
        assert read_alone("prices.csv", text.encode()) == {"text": table, "notes": []}


def test_one_column_is_a_table_too() -> None:
    assert read_alone("names.csv", b"name\nAda\n")["text"] == "| name |\n| --- |\n| Ada |"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.pdf", b"no such thing", "is broken, or no .pdf file"),
        ("a.docx", b"PK\x03\x04", "is broken, or no .docx file"),
        ("a.txt", b"\xff\xfe\xfd", "is not UTF-16"),
        ("a.csv", b"\x80", "is not UTF-8 at byte 1"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, data: bytes, problem: str) -> None:
    assert str(read_alone(name, data)["problem"]).startswith(problem)


def test_the_process_reads_a_file_and_prints_its_text() -> None:
    command = [sys.executable, "-m", "quintet.data.documents.alone", "notes.md"]
    done = subprocess.run(command, input=b"# Hours\n\n37.5 a week", capture_output=True, check=True)
    assert json.loads(done.stdout) == {"text": "# Hours\n\n37.5 a week", "notes": []}
