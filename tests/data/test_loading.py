import json
from pathlib import Path

import pytest

from quintet.data.loading import Example, load_examples
from quintet.errors import DataError


def load(tmp_path: Path, *rows: object) -> list[Example]:
    file = tmp_path / "hr.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return load_examples(file)


def refusal(tmp_path: Path, *rows: object) -> str:
    with pytest.raises(DataError) as caught:
        load(tmp_path, *rows)
    return str(caught.value).replace(str(tmp_path) + "/", "")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Why?", "answer": "So."},
        {"prompt": "Why?", "completion": "So."},
        {"instruction": "Why?", "output": "So."},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
    ],
)
def test_every_shape_becomes_the_same_conversation(tmp_path: Path, row: dict[str, object]) -> None:
    (example,) = load(tmp_path, row)
    assert [m.as_dict() for m in example.messages] == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]


def test_an_instructions_input_follows_it(tmp_path: Path) -> None:
    (example,) = load(tmp_path, {"instruction": "Sum up.", "input": "A text.", "output": "Short."})
    assert example.question == "Sum up.\n\nA text."


def test_rows_with_one_answer_are_one_group_unless_the_row_says_otherwise(tmp_path: Path) -> None:
    rows = [{"question": q, "answer": "So."} for q in "ab"] + [{"question": "c", "answer": "So.", "group": "x"}]
    assert [e.group for e in load(tmp_path, *rows)] == ["So.", "So.", "x"]


def test_blank_lines_are_no_rows_but_are_counted_as_lines(tmp_path: Path) -> None:
    (example,) = load(tmp_path, "", {"question": "Why?", "answer": "So."})
    assert example.line == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"question": "Why?",', "hr.jsonl:1: not valid JSON at column 21"),
        ("[1]", "hr.jsonl:1: expected a JSON object, found [1]"),
        (
            {"question": "Why?"},
            "hr.jsonl:1: found the fields 'question'; expected messages; or question/answer",
        ),
        ({"question": " ", "answer": "So."}, "hr.jsonl:1: field 'question' is empty; fill it in"),
        ('{"question": "\\ud83d", "answer": "So."}', "field 'question' holds half a character"),
        ("[" * 100_000, "hr.jsonl:1: not usable JSON"),
        ({"question": 7, "answer": "So."}, "hr.jsonl:1: field 'question': expected text, found 7"),
        ({"question": "Why?", "answer": "So.", "tag": 1}, "hr.jsonl:1: unknown field 'tag'"),
        ({"messages": "hello"}, "hr.jsonl:1: field 'messages': expected a list of turns"),
        ({"messages": []}, "hr.jsonl:1: field 'messages': expected an optional system turn"),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            "hr.jsonl:1: field 'messages[0].role': expected one of",
        ),
        ({"messages": [{"role": "user", "content": "x"}]}, "ending with assistant; found user"),
        ({"messages": [{"content": "x"}]}, "hr.jsonl:1: field 'messages[0]': expected an object"),
    ],
)
def test_a_bad_row_is_refused_by_file_line_and_field(tmp_path: Path, row: object, message: str) -> None:
    assert message in refusal(tmp_path, row)


def test_a_row_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hr.jsonl"
    file.write_bytes(b'{"question": "caf\xe9", "answer": "So."}\n')
    with pytest.raises(DataError, match=r"hr.jsonl:1: not UTF-8 at byte 18"):
        load_examples(file)


def test_a_repeated_row_names_the_first(tmp_path: Path) -> None:
    row = {"question": "Why?", "answer": "So."}
    assert refusal(tmp_path, row, row) == "hr.jsonl:2: the row repeats line 1; remove one of them"


def test_every_bad_row_is_listed_up_to_twenty_and_the_rest_counted(tmp_path: Path) -> None:
    lines = refusal(tmp_path, *["{"] * 25).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 5 more problems of this kind"


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    assert "the file has no rows" in refusal(tmp_path)
    with pytest.raises(DataError, match=r"none.jsonl is no file"):
        load_examples(tmp_path / "none.jsonl")


def test_another_kind_of_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "hr.csv").write_text("question,answer\n")
    with pytest.raises(DataError, match=r"hr.csv: expected a .jsonl file"):
        load_examples(tmp_path / "hr.csv")


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "hr.jsonl").write_bytes(b'\xef\xbb\xbf{"question": "Why?", "answer": "So."}\r\n')
    assert load_examples(tmp_path / "hr.jsonl")[0].question == "Why?"
