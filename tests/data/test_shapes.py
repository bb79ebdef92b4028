import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.config import FormatConfig
from quintet.data.examples import Example, Refusal
from quintet.data.loading import ExampleReader, load_examples, read_examples, write_examples
from quintet.errors import DataError

USER, ASSISTANT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
WORSE = {"role": "assistant", "content": "No."}


def write(tmp_path: Path, *rows: object) -> Path:
    file = tmp_path / "hr.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def load(tmp_path: Path, *rows: object, **settings: Any) -> list[Example]:
    return load_examples(write(tmp_path, *rows), FormatConfig(**settings))


def refusal(tmp_path: Path, *rows: object, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(tmp_path, *rows, **settings)
    return str(caught.value).replace(str(tmp_path) + "/", "")


def turns(example: Example) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Why?", "answer": "So."},
        {"prompt": "Why?", "completion": "So."},
        {"instruction": "Why?", "output": "So."},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"instruction": "Why?", "input": None, "output": "So."},
        {"messages": [USER, ASSISTANT]},
        {"messages": [{**USER, "name": None}, ASSISTANT]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
    ],
)
def test_every_shape_becomes_the_same_conversation(tmp_path: Path, row: dict[str, object]) -> None:
    (example,) = load(tmp_path, row)
    assert turns(example) == [("user", "Why?"), ("assistant", "So.")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"prompt": [USER], "chosen": "So.", "rejected": "No."},
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [WORSE]},
        {"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": [USER, WORSE]},
    ],
)
def test_every_kind_of_preference_becomes_the_same_pair(tmp_path: Path, row: dict[str, object]) -> None:
    (example,) = load(tmp_path, row)
    assert (turns(example), example.rejected) == ([("user", "Why?"), ("assistant", "So.")], "No.")


def test_preferences_of_one_prompt_are_one_group(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "chosen": c, "rejected": "No."} for c in ("So.", "Because.")]
    assert len({example.group for example in load(tmp_path, *rows)}) == 1


def test_a_label_row_spells_out_its_labels(tmp_path: Path) -> None:
    row = {"text": "free(p); free(p);", "vulnerable": True, "cwe": "CWE-415"}
    (example,) = load(tmp_path, row, labels=["vulnerable", "cwe"], instruction="Is this safe?")
    assert turns(example) == [
        ("user", "Is this safe?\n\nfree(p); free(p);"),
        ("assistant", "vulnerable: yes\ncwe: CWE-415"),
    ]
    assert example.labels == (("vulnerable", "yes"), ("cwe", "CWE-415"))


def test_a_single_label_is_the_whole_answer_and_the_text_is_the_group(tmp_path: Path) -> None:
    (example,) = load(tmp_path, {"text": "Where is my card?", "intent": "card_arrival"}, labels=["intent"])
    assert (example.answer, example.group) == ("card_arrival", "Where is my card?")


@pytest.mark.parametrize(
    ("value", "label"), [(False, "no"), (3, "3"), (" yes ", "yes"), (["CWE-119", "CWE-20"], "CWE-119, CWE-20")]
)
def test_a_label_is_spelled_out_as_text(tmp_path: Path, value: object, label: str) -> None:
    assert load(tmp_path, {"text": "a", "kind": value}, labels=["kind"])[0].answer == label


def test_columns_of_other_names_can_be_mapped(tmp_path: Path) -> None:
    row = {"Frage": "Why?", "Antwort": "So.", "question": "unused"}
    reader = ExampleReader(write(tmp_path, row), FormatConfig(columns={"question": "Frage", "answer": "Antwort"}))
    (example,) = [row for row in reader if isinstance(row, Example)]
    assert turns(example) == [("user", "Why?"), ("assistant", "So.")]
    assert reader.unused == {"question": 1}


def test_the_named_shape_is_read_where_a_row_has_two(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "a", "prompt": "Why?", "completion": "So."}
    assert load(tmp_path, row)[0].question == "q"
    assert load(tmp_path, row, shape="prompt/completion")[0].question == "Why?"


def test_an_instructions_input_follows_it(tmp_path: Path) -> None:
    (example,) = load(tmp_path, {"instruction": "Sum up.", "input": "A text.", "output": "Short."})
    assert example.question == "Sum up.\n\nA text."


def test_rows_with_one_answer_are_one_group_unless_the_row_says_otherwise(tmp_path: Path) -> None:
    rows = [{"question": q, "answer": "So."} for q in "ab"] + [{"question": "c", "answer": "So.", "group": "x"}]
    assert [e.group for e in load(tmp_path, *rows)] == ["So.", "So.", "x"]


def test_blank_lines_are_no_rows_but_are_counted_as_lines(tmp_path: Path) -> None:
    (example,) = load(tmp_path, "", {"question": "Why?", "answer": "So."})
    assert example.place.number == 2


def test_columns_that_no_shape_reads_are_counted(tmp_path: Path) -> None:
    reader = ExampleReader(write(tmp_path, {"question": "Why?", "answer": "So.", "source": "page 3"}))
    assert [type(row) for row in reader] == [Example]
    assert (reader.shapes, reader.unused) == ({"question/answer": 1}, {"source": 1})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Why?"}, "hr.jsonl:1: found the fields 'question'; expected messages; or conversations"),
        ({"question": " ", "answer": "So."}, "hr.jsonl:1: field 'question' is empty; fill it in"),
        ('{"question": "\\ud83d", "answer": "So."}', "field 'question' holds half a character"),
        ({"question": 7, "answer": "So."}, "hr.jsonl:1: field 'question': expected text, found 7"),
        ({"question": None, "answer": "So."}, "hr.jsonl:1: field 'question': expected text, found null"),
        ({"instruction": "a", "inputs": "b", "output": "c"}, "unknown field 'inputs'; did you mean 'input'?"),
        ({"messages": "hello"}, "hr.jsonl:1: field 'messages': expected a list of turns"),
        ({"messages": []}, "hr.jsonl:1: field 'messages': expected an optional system turn"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "hr.jsonl:1: field 'messages[0].role': expected one of"),
        ({"messages": [USER]}, "ending with assistant; found user"),
        ({"messages": [ASSISTANT, USER]}, "found assistant, user"),
        ({"messages": [USER, USER, ASSISTANT]}, "found user, user, assistant"),
        ({"messages": [USER, ASSISTANT, {"role": "system", "content": "x"}]}, "optional system turn"),
        ({"messages": [{"content": "x"}]}, "hr.jsonl:1: field 'messages[0]': expected an object"),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [1]}]}, "field 'messages[1].tool_calls' is not supported"),
        ({"conversations": [{"from": "bird", "value": "x"}]}, "field 'conversations[0].from': expected one of"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "So."}, "fields 'chosen' and 'rejected' are the same"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [WORSE]}, "field 'chosen': expected one assistant turn"),
    ],
)
def test_a_bad_row_is_refused_by_file_line_and_field(tmp_path: Path, row: object, message: str) -> None:
    assert message in refusal(tmp_path, row)


def test_a_missing_column_of_the_named_shape_is_named(tmp_path: Path) -> None:
    assert "hr.jsonl:1: field 'Frage' is missing; found the fields 'answer', 'q'" in refusal(
        tmp_path, {"q": "a", "answer": "b"}, shape="question/answer", columns={"question": "Frage"}
    )


@pytest.mark.parametrize("row", [{"text": "a"}, {"text": "a", "intent": None}, {"text": "a", "intent": " "}])
def test_a_row_without_its_label_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    assert "field 'intent'" in refusal(tmp_path, row, labels=["intent"])


def test_every_bad_row_is_listed_up_to_twenty_and_the_rest_counted(tmp_path: Path) -> None:
    lines = refusal(tmp_path, *["{"] * 25).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 5 more problems of this kind"


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    assert "the file has no rows" in refusal(tmp_path)
    with pytest.raises(DataError, match=r"none.jsonl does not exist"):
        load_examples(tmp_path / "none.jsonl")


def test_examples_are_kept_and_read_back_as_they_were(tmp_path: Path) -> None:
    examples = load(tmp_path, {"prompt": "Wäre?", "chosen": "So.\u2028", "rejected": "No."})
    examples += load(tmp_path, {"text": "a", "intent": "b"}, labels=["intent"])
    write_examples(tmp_path / "kept.jsonl", examples)
    assert read_examples(tmp_path / "kept.jsonl") == examples


def test_a_damaged_file_of_kept_examples_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(DataError, match="train again"):
        read_examples(tmp_path / "kept.jsonl")


FIELDS = ["messages", "conversations", "prompt", "chosen", "rejected", "question", "answer", "completion",
          "instruction", "output", "input", "group", "text", "label", "role", "content", "from", "value"]  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "system", "human", "gpt"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6), min_size=1, max_size=6),
    form=st.sampled_from([{}, {"shape": "messages"}, {"labels": ["label"]}, {"columns": {"question": "text"}}]),
)
@settings(max_examples=200)
def test_whatever_the_rows_hold_each_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], form: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(ExampleReader(file, FormatConfig(**form)))
    assert len(found) == len(rows)
    assert all(isinstance(row, Example | Refusal) for row in found)


def test_a_mapping_tells_the_shape_where_the_columns_would_fit_another(tmp_path: Path) -> None:
    row = {"question": "Is it safe?", "answer": "yes", "context": "A trial.", "long_answer": "It is, in adults."}
    columns = {"instruction": "question", "input": "context", "output": "long_answer"}
    (example,) = load(tmp_path, row, columns=columns)
    assert turns(example) == [("user", "Is it safe?\n\nA trial."), ("assistant", "It is, in adults.")]


@pytest.mark.parametrize(
    "given", [{"columns": {"quesiton": "Frage"}}, {"columns": {"question": "Frage", "completion": "Antwort"}},
              {"shape": "messages", "columns": {"question": "Frage"}}]
)  # fmt: skip
def test_a_mapping_that_no_shape_reads_is_refused_once_for_all_rows(tmp_path: Path, given: dict[str, Any]) -> None:
    row = {"question": "Why?", "answer": "So."}
    assert refusal(tmp_path, row, row, **given).startswith("format: columns: maps the fields '")


def test_a_misspelt_field_is_told_with_the_right_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"qestion": "Why?", "answer": "So."}) == (
        "hr.jsonl:1: unknown field 'qestion'; did you mean 'question'?"
    )
