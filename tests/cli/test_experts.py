"""`quintet experts`, `quintet releases` and `quintet rollback`, as a user types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.registry.experts import record_metrics
from quintet.registry.releases import release
from tests.cli.conftest import Shell
from tests.registry.making import make_expert, make_project


@pytest.fixture
def company(tmp_path: Path) -> Project:
    """Two experts of hr, of which the second answers one conversation in ten; one of finance, unreleased."""
    project = make_project(tmp_path / "company")
    make_expert(project)
    make_expert(project, weights="of the second")
    make_expert(project, "finance")
    release(project, "hr", 1, by="ada@lab", reason="the first")
    release(project, "hr", 2, share=10, forced=True)
    return project


COMMANDS = [*(f"experts {part}" for part in ("list", "show", "diff", "delete", "verify")), "rollback", "releases"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(quintet: Shell, command: str) -> None:
    assert re.search(rf"Examples?: quintet {command}", quintet(*command.split(), "--help")[1])


def test_list_shows_every_expert_and_what_is_released(quintet: Shell, company: Project) -> None:
    listed = quintet.json("experts", "list", "-p", company.root)
    assert [(each["expert"], each["share"]) for each in listed] == [("hr@1", 90), ("hr@2", 10), ("finance@1", 0)]
    assert [each["expert"] for each in quintet.json("experts", "list", "finance", "-p", company.root)] == ["finance@1"]
    assert re.search(r"hr@1 .*90%", quintet("experts", "list", "-p", company.root)[1])


def test_show_tells_all_that_is_known(quintet: Shell, company: Project) -> None:
    known = quintet.json("experts", "show", "hr@2", "-p", company.root)
    assert (known["expert"], known["base_model"], known["share"]) == ("hr@2", "nano", 10)
    assert known["settings"]["training"]["lora"]["rank"] == 8
    assert [act["act"] for act in known["acts"]] == ["publish", "release"]
    assert re.search(r"settings.training.lora.rank +8", quintet("experts", "show", "hr@2", "-p", company.root)[1])


def test_diff_tells_what_differs_and_nothing_else(quintet: Shell, company: Project) -> None:
    record_metrics(company, "hr@2", {"f1": 0.5})
    differing = quintet.json("experts", "diff", "hr@1", "hr@2", "-p", company.root)
    assert differing.keys() == {"digest", "metrics.f1"}
    assert differing["metrics.f1"] == [None, 0.5]
    assert "metrics.f1" in quintet("experts", "diff", "hr@1", "hr@2", "-p", company.root)[1]
    assert "are the same" in quintet("experts", "diff", "hr@1", "hr@1", "-p", company.root)[1]


def test_diff_sees_a_changed_setting(quintet: Shell, company: Project) -> None:
    (company.root / "quintet.db").unlink()
    (company.runs / "hr" / "2" / "config.yaml").write_text(json.dumps({"training": {"epochs": 9, "lora": {"rank": 8}}}))
    differing = quintet.json("experts", "diff", "hr@1", "hr@2", "-p", company.root)
    assert differing["settings.training.epochs"] == [3, 9]


def test_delete_asks_first(quintet: Shell, company: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", refuse)
    code, _, _ = quintet("experts", "delete", "finance@1", "-p", company.root)
    assert code == 1
    assert (company.runs / "finance" / "1" / "expert").exists()
    assert quintet("experts", "delete", "finance@1", "--yes", "-p", company.root)[0] == 0
    assert not (company.runs / "finance" / "1" / "expert").exists()


def refuse(*_: object, **__: object) -> None:
    raise SystemExit(1)


def test_delete_refuses_what_is_released(quintet: Shell, company: Project) -> None:
    code, _, err = quintet("experts", "delete", "hr@1", "--yes", "-p", company.root)
    assert code == 8
    assert "quintet rollback hr" in err


def test_verify_fails_only_when_something_is_damaged(quintet: Shell, company: Project) -> None:
    code, out, _ = quintet("experts", "verify", "-p", company.root)
    assert (code, out) == (0, "Every file is as it was registered\n")
    weights = company.runs / "hr" / "2" / "expert" / "adapter_model.safetensors"
    weights.unlink()
    code, out, _ = quintet("experts", "verify", "hr", "-p", company.root, "--json")
    assert code == 1
    (damage,) = json.loads(out)
    assert (damage["expert"], damage["path"], damage["found"]) == ("hr@2", str(weights), "is gone")
    assert quintet("experts", "verify", "-p", company.root)[0] == 1


def test_releases_shows_who_released_what_when_and_why(quintet: Shell, company: Project) -> None:
    newest, first = quintet.json("releases", "hr", "-p", company.root)
    assert (first["by"], first["reason"], first["forced"]) == ("ada@lab", "the first", False)
    assert newest["split"] == [{"version": "hr@1", "share": 90}, {"version": "hr@2", "share": 10}]
    assert newest["forced"]
    out = quintet("releases", "hr", "-p", company.root)[1]
    assert re.search(r"live +90% @1, 10% @2 .*forced", out)
    assert "no release yet" in quintet("releases", "finance", "-p", company.root)[1]


def test_rollback_restores_and_says_what_answers_now(quintet: Shell, company: Project) -> None:
    code, out, _ = quintet("rollback", "hr", "--reason", "worse", "-p", company.root)
    assert (code, out) == (0, "hr: @1 answers now\n")
    assert quintet.json("releases", "hr", "-p", company.root)[0]["reason"] == "worse"
    code, _, err = quintet("rollback", "hr", "-p", company.root)
    assert code == 8
    assert "there is no release before" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("experts", "list", "legal"), 2, "no department 'legal'; it has: hr, finance"),
        (("experts", "show", "hr@7"), 4, "there is no model named 'hr@7'"),
        (("experts", "show", "hr"), 4, "there is no model named 'hr'"),
        (("experts", "diff", "hr@1", "hr@7"), 4, "there is no model named 'hr@7'"),
        (("rollback", "finance"), 4, "quintet release finance 1"),
        (("ask", "Hi", "-d", "finance"), 4, "quintet release finance 1"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(
    quintet: Shell, company: Project, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, _, err = quintet(*arguments, "-p", company.root)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_help_loads_neither_the_registry_nor_its_database() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['quintet', 'experts', '--help']\n"
        "try:\n    runpy.run_module('quintet.cli', run_name='__main__')\nexcept SystemExit: pass\n"
        "assert not {'sqlalchemy', 'alembic', 'fsspec', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
