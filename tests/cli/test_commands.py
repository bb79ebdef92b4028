"""The command as a user types it: its output, its files, its exit codes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from transformers import TrainerState

from quintet import __version__
from quintet.config import Project
from quintet.training.callbacks import Reporter
from tests.cli.conftest import Shell
from tests.conftest import FACTS


def test_help_and_version_need_no_project(quintet: Shell) -> None:
    assert quintet("--version")[1] == f"quintet {__version__}\n"
    code, out, _ = quintet("--help")
    assert code == 0
    for command in ("init", "train", "evaluate", "quickstart", "serve", "ask"):
        assert command in out


@pytest.mark.parametrize(
    ("command", "users", "taken"),
    [("train", None, "10000"), ("quickstart", None, "10000"), ("train", "5", "5"), ("serve", None, None)],
)
def test_threads_that_wait_give_their_core_up_soon_but_in_a_server_unless_the_user_says_how(
    quintet: Shell, monkeypatch: pytest.MonkeyPatch, command: str, users: str | None, taken: str | None
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", users or "")
    if users is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    quintet(command, "--help")
    assert os.environ.get("GOMP_SPINCOUNT") == taken


@pytest.mark.parametrize("command", ["init", "train", "evaluate", "quickstart", "serve", "ask"])
def test_every_command_shows_an_example(quintet: Shell, command: str) -> None:
    assert re.search(rf"Examples?: quintet {command}", quintet(command, "--help")[1])


def test_init_makes_a_project_that_loads(quintet: Shell, tmp_path: Path) -> None:
    code, out, _ = quintet("init", tmp_path / "wrenfield")
    assert code == 0
    assert "Next: cd" in out
    project = Project.load(tmp_path / "wrenfield")
    assert list(project.config.departments) == ["hr", "finance", "sales", "healthcare", "marketing"]


def test_init_never_overwrites(quintet: Shell, project: Project) -> None:
    before = (project.root / "quintet.yaml").read_text()
    code, _, err = quintet("init", project.root)
    assert code == 2
    assert "exists already" in err
    assert (project.root / "quintet.yaml").read_text() == before


def test_quickstart_again_trains_nothing_and_shows_the_table(quintet: Shell, trained: Project) -> None:
    code, out, err = quintet("quickstart", trained.root, "--no-serve")
    assert code == 0
    assert err.count("is trained and unchanged") == 2
    row = re.search(r"hr@1 +lora +\d+ s +[\d.]+ +[\d.]+ +([\d.]+) +([\d.]+)", out)
    assert row is not None, out
    assert float(row[2]) > float(row[1])
    assert [run.name for run in (trained.runs / "hr").iterdir()] == ["1"]


def test_a_quickstart_that_was_stopped_goes_on(
    quintet: Shell, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_ctrl_c(_: Reporter, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        if state.global_step == 10:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Reporter, "on_step_end", at_ctrl_c)
    code, _, err = quintet("quickstart", project.root, "--no-serve")
    assert code == 130
    assert "to go on, run the same command" in err
    _, _, err = quintet("quickstart", project.root, "--no-serve")
    assert "checkpoint-8" in err
    assert [run.name for run in (project.runs / "hr").iterdir()] == ["1"]


def test_a_quickstart_knows_of_a_taken_port_before_it_trains(quintet: Shell, project: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, _, err = quintet("quickstart", project.root, "--port", str(other.getsockname()[1]))
    assert code == 2
    assert "Address already in use" in err
    assert not project.runs.exists()


def test_train_keeps_what_is_trained_and_force_makes_a_new_version(quintet: Shell, project: Project) -> None:
    assert quintet.json("train", "hr", "-p", project.root)[0]["expert"] == "hr@1"
    assert quintet.json("train", "hr", "-p", project.root)[0]["expert"] == "hr@1"
    assert quintet.json("train", "hr", "-p", project.root, "--force")[0]["expert"] == "hr@2"


def test_evaluate_compares_base_and_expert(quintet: Shell, trained: Project) -> None:
    (result,) = quintet.json("evaluate", "hr", "-p", trained.root)
    assert result["scores"]["expert"]["f1"] > result["scores"]["base"]["f1"] + 0.5
    assert result["differences"]["base"]["intervals"]["f1"]["low"] > 0


def test_a_trained_expert_answers_the_same_in_a_new_process(trained: Project) -> None:
    stored = json.loads((trained.runs / "hr" / "1" / "evaluation.json").read_text())
    for item in stored["items"][:2]:
        command = [
            sys.executable,
            "-m",
            "quintet.cli",
            "ask",
            item["question"],
            "-d",
            "hr",
            "-p",
            str(trained.root),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stdout == item["answers"]["expert"]["text"] + "\n"


def test_the_base_can_be_asked_too(quintet: Shell, trained: Project) -> None:
    answer = quintet.json("ask", "When is pay day?", "-d", "base", "-p", trained.root, "--max-tokens", "5")
    assert answer["expert"] is None
    assert answer["tokens_generated"] <= 5


def test_a_department_that_fails_stops_no_other_and_the_exit_code_tells(quintet: Shell, project: Project) -> None:
    with (project.root / "departments" / "finance.jsonl").open("a") as stream:
        stream.write('{"question": "Broken?"\n')
    code, out, err = quintet("train", "--all", "-p", project.root)
    assert code == 1
    assert "finance.jsonl:13: not valid JSON" in err
    assert "1 of 2 departments were not trained and measured: finance" in err
    assert re.search(r"hr@1 +lora .* +100% +pass", out)


def test_an_evaluation_that_fails_stops_no_other(quintet: Shell, project: Project) -> None:
    assert quintet("train", "hr", "-p", project.root)[0] == 0
    code, out, err = quintet("evaluate", "--all", "-p", project.root)
    assert code == 1
    assert "finance: department 'finance' has no expert yet" in err
    assert "hr@1" in out


def test_a_department_that_fails_alone_ends_with_the_code_of_its_failure(quintet: Shell, project: Project) -> None:
    with (project.root / "departments" / "finance.jsonl").open("a") as stream:
        stream.write('{"question": "Broken?"\n')
    code, _, err = quintet("train", "finance", "-p", project.root)
    assert code == 3
    assert "finance.jsonl:13: not valid JSON" in err
    assert not project.runs.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train",), 2, "name departments, or pass --all"),
        (("train", "hr", "--all"), 2, "name departments, or pass --all"),
        (("train", "legal"), 2, "no department 'legal'; it has: hr, finance"),
        (("evaluate", "hr"), 4, "quintet train hr"),
        (("ask", "Hi", "-d", "hr"), 4, "quintet train hr"),
        (("ask", "Hi", "-d", "legal"), 4, "there is no model named 'legal'"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(
    quintet: Shell, project: Project, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, _, err = quintet(*arguments, "-p", project.root)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_a_base_that_is_nowhere_is_explained(quintet: Shell, project: Project, tmp_path: Path) -> None:
    path = project.root / "quintet.yaml"
    path.write_text(re.sub(r"base_model: .*", f"base_model: {tmp_path}/none", path.read_text()))
    code, _, err = quintet("train", "hr", "-p", project.root)
    assert code == 4
    assert "cannot be loaded" in err


def test_a_taken_port_is_explained(quintet: Shell, trained: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = quintet("serve", trained.root, "--port", str(port))
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in err


def test_serve_answers_and_stops_when_asked(trained: Project) -> None:
    command = [sys.executable, "-u", "-m", "quintet.cli", "serve", str(trained.root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        greeting = server.stdout.readline()
        url = re.search(r"http://[\d.:]+", greeting)
        assert url is not None, greeting
        _wait_until_up(url[0])
        question, answer = next(iter(FACTS.items()))
        reply = httpx.post(f"{url[0]}/api/hr", json={"query": question, "temperature": 0}, timeout=30)
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 0
    assert reply.json()["response"] == answer
    assert reply.json()["expert"] == "hr@1"
    assert "Traceback" not in errors


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(url)


def test_neither_help_nor_the_server_module_loads_torch() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['quintet', '--help']\n"
        "try:\n    runpy.run_module('quintet.cli', run_name='__main__')\nexcept SystemExit: pass\n"
        "import quintet.server.app\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=dict(os.environ))
