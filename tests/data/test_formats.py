import csv
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from quintet.data import formats
from quintet.data.examples import Refusal
from quintet.data.formats import RawRow, data_files, read_rows
from quintet.errors import DataError

TABLE = [{"question": "Why?", "answer": "So."}, {"question": "¿Cómo?\nYa", "answer": 'A "quoted", thing'}]


def write(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_table(folder: Path, suffix: str) -> Path:
    file = folder / f"hr{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(TABLE), file)
        return file
    lines = "".join(json.dumps(row) + "\n" for row in TABLE)
    texts = {".jsonl": lines, ".json": json.dumps(TABLE), ".csv": as_csv(TABLE)}
    return write(folder, file.name, texts[suffix])


def values(file: Path) -> list[dict[str, object]]:
    rows = list(read_rows(file))
    assert all(isinstance(row, RawRow) for row in rows), rows
    return [row.values for row in rows if isinstance(row, RawRow)]


def reasons(file: Path) -> list[str]:
    return [str(row).replace(f"{file.parent}/", "") for row in read_rows(file) if isinstance(row, Refusal)]


def error(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_rows(file))
    return str(caught.value).replace(f"{file.parent}/", "")


@pytest.mark.parametrize("suffix", formats.READERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    assert values(write_table(tmp_path, suffix)) == TABLE


@pytest.mark.parametrize(
    ("suffix", "places"),
    [
        (".jsonl", ["hr.jsonl:1", "hr.jsonl:2"]),
        (".json", ["hr.json: item 1", "hr.json: item 2"]),
        (".csv", ["hr.csv:2", "hr.csv:3"]),
        (".parquet", ["hr.parquet: row 1", "hr.parquet: row 2"]),
    ],
)
def test_every_row_knows_its_place(tmp_path: Path, suffix: str, places: list[str]) -> None:
    rows = read_rows(write_table(tmp_path, suffix))
    assert [str(row.place).replace(f"{tmp_path}/", "") for row in rows] == places


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "Why?",', "hr.jsonl:1: not valid JSON at column 21"),
        ("[1]", "hr.jsonl:1: expected a JSON object, found [1]"),
        (b'{"a": "caf\xe9"}', "hr.jsonl:1: not UTF-8 at byte 11"),
        ("[" * 100_000, "hr.jsonl:1: not usable JSON"),
        ('{"a": ' + "9" * 5000 + "}", "hr.jsonl:1: not usable JSON"),
        ('{"a": 1, "a": 2}', "hr.jsonl:1: the key 'a' stands twice in one object"),
    ],
)
def test_a_broken_line_is_refused_by_its_number_and_the_others_are_read(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    raw = line.encode() if isinstance(line, str) else line
    file = write(tmp_path, "hr.jsonl", raw + b'\n{"b": 1}\n')
    assert reasons(file)[0].startswith(reason)
    assert [row.values for row in read_rows(file) if isinstance(row, RawRow)] == [{"b": 1}]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    for suffix, text in ((".jsonl", '{"a": 1}\r\n'), (".json", '[{"a": 1}]'), (".csv", "a\r\n1\r\n")):
        assert list(values(write(tmp_path, f"x{suffix}", "\ufeff" + text))[0]) == ["a"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_a_file_in_utf_16_is_told_so(tmp_path: Path, suffix: str) -> None:
    assert (
        error(write(tmp_path, f"hr{suffix}", "a,b\n1,2\n".encode("utf-16")))
        == f"hr{suffix} is UTF-16; save it as UTF-8"
    )


def test_a_line_too_long_to_be_a_row_is_refused_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE", 2**20)
    file = write(tmp_path, "hr.jsonl", b'{"a": "' + b"x" * 5 * 2**20 + b'"}\n{"b": 1}\n')
    assert reasons(file) == ["hr.jsonl:1: the line is longer than 1 MiB; expected one JSON object a line"]
    assert len(list(read_rows(file))) == 2


def test_a_hundred_megabytes_in_one_line_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "hr.jsonl"
    with file.open("wb") as stream:
        for _ in range(100):
            stream.write(b"x" * 2**20)
    assert reasons(file) == ["hr.jsonl:1: the line is longer than 16 MiB; expected one JSON object a line"]


def test_a_json_file_that_is_no_list_says_what_it_is(tmp_path: Path) -> None:
    assert error(write(tmp_path, "hr.json", '{"rows": 1}')) == 'hr.json: expected a list of objects, found {"rows": 1}'


def test_a_json_file_with_an_object_a_line_is_pointed_to_its_real_kind(tmp_path: Path) -> None:
    assert "name it .jsonl" in error(write(tmp_path, "hr.json", '{"a": 1}\n{"a": 2}\n'))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_with_the_separator_of_its_header(tmp_path: Path, delimiter: str) -> None:
    assert values(write(tmp_path, "hr.csv", as_csv(TABLE, delimiter))) == TABLE


def test_a_ragged_csv_row_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    file = write(tmp_path, "hr.csv", "a,b\n1,2\n1,2,3\n1\n3,4\n")
    assert reasons(file) == [
        "hr.csv:3: the row has 3 fields, the header has 2; quote fields that hold the separator",
        "hr.csv:4: the row has 1 fields, the header has 2; quote fields that hold the separator",
    ]
    assert len(list(read_rows(file))) == 4


def test_a_quote_that_is_never_closed_is_refused_where_it_opens(tmp_path: Path) -> None:
    assert reasons(write(tmp_path, "hr.csv", 'a,b\n1,2\n3,"4\n5,6\n')) == [
        "hr.csv:3: not valid CSV: unexpected end of data; mend the quotes of this row"
    ]


def test_a_csv_row_that_is_no_utf8_is_refused_alone(tmp_path: Path) -> None:
    file = write(tmp_path, "hr.csv", b"a,b\n1,caf\xe9\n1,2\n")
    assert reasons(file) == ["hr.csv:2: not UTF-8; save the file as UTF-8"]


@pytest.mark.parametrize(
    ("header", "problem"), [("a,a", "'a' stands twice"), ("a,,b", "is empty"), (" a, a", "'a' stands twice")]
)
def test_a_csv_whose_columns_cannot_be_told_apart_is_refused(tmp_path: Path, header: str, problem: str) -> None:
    message = error(write(tmp_path, "hr.csv", f"{header}\n1,2\n"))
    assert message.startswith("hr.csv:1: the name of column 2 " + problem)


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    assert error(write(tmp_path, "hr.parquet", b"PAR1 not really")).startswith("hr.parquet")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "hr.xlsx", b"x")
    assert error(file) == (
        "hr.xlsx: expected a file that ends in .jsonl, .json, .csv, .parquet; convert it and name the new file"
    )


def test_a_folder_is_its_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.csv", "a.jsonl", ".hidden.jsonl"):
        write(tmp_path, name, "")
    (tmp_path / "part").mkdir()
    write(tmp_path / "part", "c.json", "[]")
    assert [file.name for file in data_files(tmp_path)] == ["a.jsonl", "b.csv", "c.json"]


def test_a_folder_with_another_kind_of_file_is_refused_since_it_would_be_left_out_unseen(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "")
    write(tmp_path, "notes.txt", "")
    with pytest.raises(DataError, match=r"notes\.txt: expected a file that ends in"):
        data_files(tmp_path)


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "none.jsonl", "does not exist"),
        (tmp_path / "a.jsonl", "symbolic links"),
        (tmp_path / "empty", "has no data files"),
    ):
        with pytest.raises(DataError, match=message):
            data_files(path)


def test_a_loop_of_folders_ends(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [file.name for file in data_files(tmp_path)] == ["a.jsonl"]


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "hr.jsonl", "{}")
    file.chmod(0)
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)  # nobody: root may read everything
    try:
        with pytest.raises(DataError, match=r"hr\.jsonl cannot be read: Permission denied"):
            list(read_rows(file))
    finally:
        if is_root:
            os.seteuid(0)


def mutated(seed: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, and a good file with some of its bytes replaced, left out or doubled."""
    edit = st.tuples(st.integers(0, len(seed)), st.integers(0, 9), st.binary(max_size=4))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        raw = seed
        for at, length, new in edits:
            raw = raw[:at] + new + raw[at + length :]
        return raw

    return st.one_of(st.binary(max_size=300), st.lists(edit, max_size=6).map(apply))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


GOOD_LINES = "".join(json.dumps(row) + "\n" for row in TABLE * 3).encode()


@given(raw=mutated(GOOD_LINES))
@settings(max_examples=400)
def test_every_line_of_any_jsonl_is_a_row_or_a_refusal(folder: Path, raw: bytes) -> None:
    file = write(folder, "x.jsonl", raw)
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        assert "is UTF-16" in error(file)
        return
    found = list(read_rows(file))
    assert [row.place.number for row in found] == [n for n, line in enumerate(lines, 1) if line.strip()]


@given(raw=mutated(json.dumps(TABLE * 3).encode()))
@settings(max_examples=300)
def test_every_item_of_any_json_is_a_row_or_a_refusal_or_the_file_is_refused(folder: Path, raw: bytes) -> None:
    file = write(folder, "x.json", raw)
    try:
        found = list(read_rows(file))
    except DataError:
        return
    assert len(found) == len(json.loads(raw.decode("utf-8-sig")))


@given(raw=mutated(as_csv(TABLE * 3).encode()))
@settings(max_examples=400)
def test_any_csv_is_read_or_refused_and_its_rows_stand_in_order(folder: Path, raw: bytes) -> None:
    file = write(folder, "x.csv", raw)
    try:
        starts = [row.place.number for row in read_rows(file)]
    except DataError:
        return
    assert starts == sorted(set(starts))


@given(lines=st.lists(st.binary(min_size=1, max_size=20).filter(lambda line: not set(line) & set(b'"\r\n'))))
@settings(max_examples=300)
def test_every_line_of_rubbish_in_a_csv_is_a_row_or_a_refusal(folder: Path, lines: list[bytes]) -> None:
    file = write(folder, "z.csv", b"\n".join([b"a,b", *lines, b""]))
    assert [row.place.number for row in read_rows(file)] == list(range(2, len(lines) + 2))


@given(rows=st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=8))
def test_every_row_that_was_written_to_a_csv_is_read(folder: Path, rows: list[tuple[str, str]]) -> None:
    clean = [tuple(cell.encode("utf-8", "replace").decode() for cell in row) for row in rows]
    stream = io.StringIO()
    csv.writer(stream).writerows([("a", "b"), *clean])
    file = write(folder, "y.csv", stream.getvalue())
    assert [tuple(row.values()) for row in values(file)] == clean


def _good_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(TABLE * 3), sink)
    return bytes(sink.getvalue())


@given(raw=mutated(_good_parquet()))
@settings(max_examples=200)
def test_any_parquet_is_read_whole_or_refused(folder: Path, raw: bytes) -> None:
    file = write(folder, "x.parquet", raw)
    try:
        found = list(read_rows(file))
    except DataError:
        return
    assert len(found) == parquet.ParquetFile(file).metadata.num_rows
