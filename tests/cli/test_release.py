"""From evaluation to release and back, as a user types it, and under a server that runs all the while."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
import yaml

from quintet.config import Project
from tests.cli.conftest import Shell, copy_of, run_main
from tests.conftest import FACTS


@pytest.fixture
def company(trained: Project, tmp_path: Path) -> Project:
    """A copy of the trained project, to change."""
    return copy_of(trained, tmp_path / "company")


@pytest.fixture(scope="module")
def retrained(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_of(trained, tmp_path_factory.mktemp("retrained") / "company")
    assert run_main("train", "hr", "--force", "-p", project.root) == 0
    return project


@pytest.fixture(scope="module")
def trained_wrongly(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_of(trained, tmp_path_factory.mktemp("wrongly") / "company")
    shuffle_answers(project.root / "departments" / "hr.jsonl")
    assert run_main("train", "hr", "--no-evaluate", "-p", project.root) == 0
    return project


@pytest.fixture
def with_two(retrained: Project, tmp_path: Path) -> Project:
    """A company with an hr@2 that is as good as hr@1, which is live."""
    return copy_of(retrained, tmp_path / "company")


@pytest.fixture
def misled(trained_wrongly: Project, tmp_path: Path) -> Project:
    """A company with an hr@2 that says for each question what is true of another."""
    return copy_of(trained_wrongly, tmp_path / "company")


def shuffle_answers(path: Path) -> None:
    wrong = dict(zip(FACTS.values(), [*list(FACTS.values())[1:], next(iter(FACTS.values()))], strict=True))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"answer": wrong[row["answer"]]}) + "\n" for row in rows))


def test_an_expert_trained_on_shuffled_answers_is_blocked_with_both_numbers(quintet: Shell, misled: Project) -> None:
    code, out, err = quintet("release", "hr", "2", "-p", misled.root)
    assert code == 9
    assert "answers now" not in out
    assert re.search(r"specific: f1 with the own question's reference is -0\.\d+ above", err)
    assert re.search(r"live_margin: f1 is 0\.\d+, that of hr@1 1\.000", err)
    assert quintet.json("releases", "hr", "-p", misled.root)[0]["split"] == [{"version": "hr@1", "share": 100}]


def test_a_forced_release_wants_a_reason_and_keeps_it(quintet: Shell, misled: Project) -> None:
    code, _, err = quintet("release", "hr", "2", "--force", "-p", misled.root)
    assert code == 2
    assert "wants a reason" in err
    code, out, _ = quintet("release", "hr", "2", "--force", "--reason", "a test", "-p", misled.root)
    assert code == 0
    assert "hr: @2 answers now" in out
    live = quintet.json("releases", "hr", "-p", misled.root)[0]
    assert (live["split"][0]["version"], live["forced"], live["reason"]) == ("hr@2", True, "a test")
    assert "@" in live["by"]


def test_an_expert_whose_weights_were_changed_after_it_was_measured_is_not_released(
    quintet: Shell, with_two: Project
) -> None:
    with (with_two.runs / "hr" / "2" / "expert" / "adapter_model.safetensors").open("ab") as stream:
        stream.write(b"more")
    code, _, err = quintet("release", "hr", "2", "-p", with_two.root)
    assert code == 4
    assert "the files of hr@2 are gone or are not those that were trained" in err
    assert quintet("release", "hr", "2", "--force", "--reason", "a test", "-p", with_two.root)[0] == 4
    assert quintet.json("releases", "hr", "-p", with_two.root)[0]["split"] == [{"version": "hr@1", "share": 100}]


def test_another_base_does_not_lock_a_department_with_a_live_expert(
    quintet: Shell, company: Project, tmp_path: Path
) -> None:
    values = yaml.safe_load((company.root / "quintet.yaml").read_text())
    shutil.copytree(values["base_model"], tmp_path / "other")
    with (tmp_path / "other" / "generation_config.json").open("a") as stream:
        stream.write("\n")
    values["base_model"] = str(tmp_path / "other")
    (company.root / "quintet.yaml").write_text(yaml.safe_dump(values))
    code, _, err = quintet("release", "hr", "1", "-p", company.root)
    assert code == 4
    assert "was trained on the base" in err
    code, _, err = quintet("train", "hr", "-p", company.root)
    assert code == 0
    assert "hr@1, which is live, is not compared" in err
    assert "hr: @2 answers now" in quintet("release", "hr", "-p", company.root)[1]


def test_what_was_compared_is_not_what_is_released_by_default(quintet: Shell, company: Project) -> None:
    assert quintet("compare", "hr", "--methods", "ia3", "-p", company.root)[0] == 0
    assert "hr: @1 answers now" in quintet("release", "hr", "-p", company.root)[1]
    assert quintet.json("train", "hr", "-p", company.root)[0]["expert"] == "hr@1"


def test_a_good_expert_is_released_and_is_not_forced_even_when_forced(quintet: Shell, with_two: Project) -> None:
    code, out, _ = quintet("release", "hr", "--force", "--reason", "to be sure", "-p", with_two.root)
    assert code == 0
    assert "hr: @2 answers now" in out
    assert quintet.json("releases", "hr", "-p", with_two.root)[0]["forced"] is False


def test_a_canary_gets_its_share(quintet: Shell, with_two: Project) -> None:
    assert "hr: 90% @1, 10% @2 answers now" in quintet("release", "hr", "2", "--share", "10", "-p", with_two.root)[1]


def test_the_gate_of_a_department_is_its_own(quintet: Shell, company: Project) -> None:
    path = company.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["departments"]["hr"]["gate"] = {"general_perplexity": 0.001}
    path.write_text(yaml.safe_dump(values))
    found = {one["department"]: one["gate"] for one in quintet.json("evaluate", "--all", "-p", company.root)}
    assert [rule["rule"] for rule in found["hr"]["rules"] if not rule["passed"]] == ["general_perplexity"]
    assert found["finance"]["passed"]


def test_an_evaluation_leaves_a_report_and_junit_for_ci(quintet: Shell, company: Project, tmp_path: Path) -> None:
    code, out, _ = quintet("evaluate", "hr", "--junit", tmp_path / "gate.xml", "-p", company.root)
    assert code == 0
    assert re.search(r"Token F1 +0\.00 +1\.00 +\+1\.00", out)
    page = company.runs / "hr" / "1" / "report.html"
    assert str(page) in out.replace("\n", "")
    assert all(question in page.read_text() for question in FACTS)
    suite = ET.parse(tmp_path / "gate.xml").getroot()[0]
    assert (suite.get("name"), suite.get("failures")) == ("quintet gate hr@1", "0")


def test_methods_are_compared_and_what_is_trained_stays(quintet: Shell, company: Project) -> None:
    found = quintet.json("compare", "hr", "--methods", "lora,prefix", "-p", company.root)
    assert [(one["expert"], one["method"]) for one in found] == [("hr@1", "lora"), ("hr@2", "prefix")]
    assert found[0]["difference"] is None
    assert found[1]["difference"]["low"] <= found[1]["difference"]["mean"]
    assert [one["expert"] for one in quintet.json("compare", "hr", "--methods", "prefix", "-p", company.root)] == [
        "hr@2"
    ]


def test_forgetting_is_shown_for_the_live_experts(quintet: Shell, company: Project) -> None:
    matrix = quintet.json("forgetting", "-p", company.root)
    assert (matrix["experts"], matrix["sets"]) == (["hr@1", "finance@1"], ["hr", "finance", "general"])
    assert matrix["perplexity"][0][0] < matrix["base"][0]
    assert "finance@1" in (company.runs / "forgetting.html").read_text()


@pytest.fixture
def server(with_two: Project) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "quintet.cli", "serve", str(with_two.root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert url is not None
        yield url[0]
        process.terminate()


def test_a_rollback_reaches_a_running_server_within_five_seconds_and_fails_no_request(
    quintet: Shell, with_two: Project, server: str
) -> None:
    assert quintet("release", "hr", "2", "-p", with_two.root)[0] == 0
    answers: list[tuple[float, int, str | None]] = []

    def ask_on_and_on() -> None:
        while not answers or answers[-1][2] != "hr@1":
            reply = httpx.post(f"{server}/api/hr", json={"query": "When is pay day?"}, timeout=30)
            answers.append((time.monotonic(), reply.status_code, reply.json().get("expert")))

    httpx.post(f"{server}/api/hr", json={"query": "Hello?"}, timeout=60).raise_for_status()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_on_and_on)
        while len(answers) < 5:
            time.sleep(0.01)
        assert {expert for _, _, expert in answers} == {"hr@2"}
        began = time.monotonic()
        assert quintet("rollback", "hr", "--reason", "a test", "-p", with_two.root)[0] == 0
        asking.result(timeout=30)
    assert {status for _, status, _ in answers} == {200}
    assert answers[-1][0] - began < 5
