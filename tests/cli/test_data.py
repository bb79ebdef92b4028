"""`quintet data check` and `quintet data show`, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from quintet.config import Project
from tests.cli.conftest import Shell


def add(project: Project, *rows: object) -> None:
    """Add rows to HR's data."""
    with (project.root / "departments" / "hr.jsonl").open("a") as stream:
        stream.writelines((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def configure(project: Project, **settings: Any) -> None:
    path = project.root / "quintet.yaml"
    config = yaml.safe_load(path.read_text())
    config["departments"]["hr"].update(settings)
    path.write_text(yaml.safe_dump(config))


def test_sound_data_passes_and_its_figures_are_shown(quintet: Shell, project: Project) -> None:
    code, out, _ = quintet("data", "check", "-p", project.root)
    assert code == 0
    assert "12: 12 accepted, 0 refused" in out
    assert "question/answer (12), 4 groups" in out
    assert "hr: can be trained" in out
    assert "finance: can be trained" in out


def test_a_refused_row_is_named_and_fails_the_command(quintet: Shell, project: Project) -> None:
    add(project, {"question": "Why?", "answer": ""})
    code, out, err = quintet("data", "check", "hr", "-p", project.root)
    assert code == 1
    assert "hr.jsonl:13: field 'answer' is empty; fill it in or remove the row" in out
    assert "hr: 1 to mend before training" in out
    assert "Traceback" not in err


def test_a_file_that_cannot_be_read_fails_the_command_and_the_others_are_checked(
    quintet: Shell, project: Project
) -> None:
    (project.root / "departments" / "hr.jsonl").unlink()
    code, out, err = quintet("data", "check", "-p", project.root)
    assert code == 1
    assert "does not exist" in err
    assert "finance: can be trained" in out


def test_warnings_fail_the_command_when_asked(quintet: Shell, project: Project) -> None:
    add(project, {"question": "Where is the cafÃ©?", "answer": "There."})
    assert quintet("data", "check", "hr", "-p", project.root)[0] == 0
    code, out, _ = quintet("data", "check", "hr", "--strict", "-p", project.root)
    assert code == 1
    assert "1 text that looks damaged" in out


def test_machines_get_everything_as_json(quintet: Shell, project: Project) -> None:
    add(project, "{")
    code, out, _ = quintet("data", "check", "hr", "--json", "-p", project.root)
    (report,) = json.loads(out)
    assert code == 1
    assert (report["department"], report["errors"], report["data"]["accepted"]) == ("hr", 1, 12)
    assert report["data"]["refused"]["count"] == 1


def test_no_finding_beyond_the_asked_number_of_places_is_printed_but_all_are_counted(
    quintet: Shell, project: Project
) -> None:
    add(project, *["{"] * 30)
    _, out, _ = quintet("data", "check", "hr", "--places", "2", "-p", project.root)
    assert out.count("not valid JSON") == 2
    assert "... and 28 more" in out


def test_show_brackets_what_is_trained(quintet: Shell, project: Project) -> None:
    code, out, _ = quintet("data", "show", "hr", "-p", project.root)
    assert code == 0
    plain = out.replace("│", "").replace("⏎", "")
    assert "⟦You get 26 days of leave each year.<|im_end|>⟧" in plain
    assert "hr.jsonl:1: " in out


def test_show_counts_rows_as_the_file_does_and_shows_several(quintet: Shell, project: Project) -> None:
    shown = quintet.json("data", "show", "hr", "--row", "12", "-n", "2", "-p", project.root)
    assert [one["place"].rsplit("/", 1)[-1] for one in shown] == ["hr.jsonl:12"]
    assert shown[0]["trained"] == sum(token["trained"] for token in shown[0]["tokens"])


def test_show_shows_held_out_rows(quintet: Shell, project: Project) -> None:
    (named,) = quintet.json("data", "show", "hr", "--held-out", "-p", project.root)
    assert named["place"].endswith("hr.eval.jsonl:1")
    configure(project, eval_data=None, eval_fraction=0.3)
    (split,) = quintet.json("data", "show", "hr", "--held-out", "-p", project.root)
    assert split["place"].rsplit(":", 1)[0].endswith("hr.jsonl")


def test_show_shows_a_long_row_as_it_is_trained(quintet: Shell, project: Project) -> None:
    add(project, {"question": "How many days? " * 100, "answer": "26."})
    code, _, err = quintet("data", "show", "hr", "--row", "13", "-p", project.root)
    assert code == 3
    assert "the base's context holds 256" in err
    configure(project, too_long="truncate")
    (cut,) = quintet.json("data", "show", "hr", "--row", "13", "-p", project.root)
    assert cut["total"] <= 256


def test_show_writes_a_page(quintet: Shell, project: Project, tmp_path: Path) -> None:
    page = tmp_path / "hr.html"
    code, out, _ = quintet("data", "show", "hr", "-n", "3", "--html", page, "-p", project.root)
    assert code == 0
    assert f"Wrote 3 examples to {page}" in out
    assert page.read_text().count("<h2>") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "hr", "--row", "99"), 3, "hr has no row 99"),
        (("show", "legal"), 2, "no department 'legal'"),
        (("check", "legal"), 2, "no department 'legal'"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(
    quintet: Shell, project: Project, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, _, err = quintet("data", *arguments, "-p", project.root)
    assert (found, "Traceback" in err) == (code, False)
    assert message in err
