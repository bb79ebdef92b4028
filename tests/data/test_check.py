import json
import tracemalloc
from pathlib import Path

import pytest
import yaml

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.check import check_department
from quintet.data.report import Report
from quintet.data.splits import load_split
from quintet.errors import DataError
from quintet.models import base_model

ROW = {"question": "When is pay day?", "answer": "The 27th."}


def check(project: Project, *rows: object, held_out: list[object] | None = None, **settings: object) -> Report:
    """Write the rows as the whole of HR's data, and check it."""
    config = yaml.safe_load((project.root / "quintet.yaml").read_text())
    config["departments"] = {"hr": {"description": "HR", "data": "hr.jsonl", **settings}}
    for name, given in (("hr.jsonl", list(rows)), ("held.jsonl", held_out)):
        if given is not None:
            text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in given)
            (project.root / name).write_text(text)
    if held_out is not None:
        config["departments"]["hr"]["eval_data"] = "held.jsonl"
    (project.root / "quintet.yaml").write_text(yaml.safe_dump(config))
    opened = Project.load(project.root)
    source = opened.config.base_model
    translator = ChatTranslator(base_model.load_tokenizer(source))
    return check_department(opened, "hr", translator, base_model.context_length(source))


def places(found: object) -> list[str]:
    return [place.split(": ")[0].rsplit("/", 1)[-1] for place in getattr(found, "places", [])]


def test_rows_in_are_rows_accepted_and_rows_refused(project: Project) -> None:
    data = check(project, ROW, "{", {"question": "", "answer": "x"}, {"question": "b", "answer": "c"}).data
    assert (data.rows, data.accepted, data.refused.count) == (4, 2, 2)
    assert places(data.refused) == ["hr.jsonl:2", "hr.jsonl:3"]


def test_shapes_and_unread_columns_are_told(project: Project) -> None:
    data = check(project, {**ROW, "source": "p. 3"}, {"prompt": "a", "completion": "b"}).data
    assert data.shapes == {"question/answer": 1, "prompt/completion": 1}
    assert data.unused_columns == {"source": 1}


def test_tokens_are_those_that_training_will_see(project: Project) -> None:
    translator = ChatTranslator(base_model.load_tokenizer(project.config.base_model))
    data = check(project, *({"question": "Why? " * n, "answer": "So."} for n in range(1, 6))).data
    from quintet.data.loading import load_examples

    encoded = [translator.encode_example(e.messages) for e in load_examples(project.root / "hr.jsonl")]
    sizes = sorted(len(row.ids) for row in encoded)
    assert data.lengths is not None
    assert (data.lengths.total, data.lengths.percentiles["p50"]) == (sum(sizes), sizes[2])
    assert data.lengths.percentiles["max"] == sizes[-1]
    assert data.lengths.trained == sum(label != -100 for row in encoded for label in row.labels)
    assert sum(data.lengths.bins) == 5


def test_a_row_over_the_context_is_refused_unless_the_policy_says_otherwise(project: Project) -> None:
    rows = ROW, {"question": "How many days? " * 200, "answer": "26."}
    refused, cut = check(project, *rows).data, check(project, *rows, too_long="truncate").data
    assert (refused.refused.count, refused.accepted, refused.too_long.count) == (1, 1, 1)
    assert (cut.refused.count, cut.accepted, cut.too_long.count) == (0, 2, 1)


def test_rows_that_repeat_another_are_told_with_the_first(project: Project) -> None:
    report = check(project, ROW, {"question": "b", "answer": "c"}, ROW)
    assert places(report.data.duplicates) == ["hr.jsonl:3"]
    assert report.data.duplicates.places[0].endswith("hr.jsonl:1")
    assert report.data.contradictions.count == 0


def test_one_question_with_two_answers_is_told(project: Project) -> None:
    report = check(project, ROW, {"question": "when is  PAY day?", "answer": "The 28th."})
    assert places(report.data.contradictions) == ["hr.jsonl:2"]
    assert report.data.duplicates.count == 0


def test_a_question_almost_as_another_is_told(project: Project) -> None:
    question = "please tell me how many days of annual leave a new member of staff in the north clinic gets in a year"
    report = check(project, {"question": question, "answer": "26."}, {"question": question + " now", "answer": "26."})
    assert report.data.near_duplicates is not None
    assert places(report.data.near_duplicates) == ["hr.jsonl:2"]


def test_a_held_out_question_that_is_trained_is_an_error_and_almost_one_a_warning(project: Project) -> None:
    question = "please tell me how many days of annual leave a new member of staff in the north clinic gets in a year"
    rows = ROW, {"question": question, "answer": "26."}
    held = [{"question": "When is Pay Day?", "answer": "The 27th."}, {"question": question + " now", "answer": "26."}]
    report = check(project, *rows, held_out=[*held, {"question": "Where do I park?", "answer": "Behind."}])
    assert places(report.leaks) == ["held.jsonl:1"]
    assert places(report.near_leaks) == ["held.jsonl:2"]
    assert (report.errors, report.warnings) == (1, 1)


def test_data_that_a_training_would_not_split_is_an_error(project: Project) -> None:
    rows = [{"question": f"{way} {n}?", "answer": f"{n}."} for n in ("one", "two", "three") for way in ("Is it", "So")]
    report = check(project, *rows)
    assert report.no_split is not None
    assert "6 rows in 3 groups cannot be split to hold out 10%" in report.no_split
    assert report.errors == 1
    with pytest.raises(DataError) as refused:
        load_split(Project.load(project.root), "hr")
    assert str(refused.value) == report.no_split


def test_data_that_is_held_out_by_a_file_needs_no_split(project: Project) -> None:
    assert check(project, ROW, held_out=[{"question": "May I?", "answer": "No."}]).errors == 0


def test_classes_are_counted_for_each_label(project: Project) -> None:
    rows = [{"text": f"text {n}", "intent": "card" if n % 4 else "cash"} for n in range(8)]
    assert check(project, *rows, format={"labels": ["intent"]}).data.labels == {"intent": {"card": 6, "cash": 2}}


def test_personal_data_is_told_without_being_shown(project: Project) -> None:
    address = "jo.writer" + "@" + "wrenfield-health.com"
    report = check(project, {"question": "Whom do I ask?", "answer": f"Write to {address}."})
    (found,) = report.data.personal.values()
    assert places(found) == ["hr.jsonl:1"]
    assert address not in json.dumps(report.as_json())


def test_damaged_text_is_told(project: Project) -> None:
    report = check(project, {"question": "Where is the cafÃ©?", "answer": "Here."})
    assert places(report.data.encoding) == ["hr.jsonl:1"]


def test_the_rejected_answer_of_a_preference_is_looked_at_too(project: Project) -> None:
    report = check(project, {"prompt": "Why?", "chosen": "So.", "rejected": "No\ufffd."})
    assert (report.data.shapes, report.data.encoding.count) == ({"preference": 1}, 1)


def test_the_samples_data_has_nothing_to_mend(tmp_path: Path) -> None:
    from quintet.cli.scaffold import create_project

    create_project(tmp_path / "wrenfield")
    opened = Project.load(tmp_path / "wrenfield")
    source = base_model.locate(opened.config.base_model, opened.root)
    translator = ChatTranslator(base_model.load_tokenizer(source))
    report = check_department(opened, "hr", translator, base_model.context_length(source))
    assert (report.errors, report.data.accepted, report.data.groups) == (0, 700, 100)


@pytest.mark.slow
def test_a_large_file_is_checked_in_little_memory(project: Project) -> None:
    """60 MB of rows; what is held is a few numbers for each, far below the file's size."""
    row = json.dumps({"question": "Why? " * 40, "answer": "So it is. " * 30}) + "\n"
    with (project.root / "departments" / "hr.jsonl").open("w") as stream:
        for number in range(60 * 10**6 // len(row)):
            stream.write(row.replace("Why", f"Why{number}", 1))
    (project.root / "departments" / "hr.eval.jsonl").write_text(json.dumps(ROW) + "\n")
    source = project.config.base_model
    translator = ChatTranslator(base_model.load_tokenizer(source))
    tracemalloc.start()
    check_department(project, "hr", translator, base_model.context_length(source), near=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * 2**20, f"{peak / 2**20:.0f} MiB"
