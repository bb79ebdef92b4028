"""Keys as they are made, listed and revoked in a terminal, and the server that asks for them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from quintet.config import Project
from quintet.registry.keys import check_key
from tests.cli.conftest import Shell

KEY = re.compile(r"qk_[a-z0-9]{12}_[A-Za-z0-9]{43}")
Server = Callable[..., str]


def configure(project: Project, serving: str) -> None:
    with (project.root / "quintet.yaml").open("a") as config:
        config.write(f"serving: {serving}\n")


@pytest.fixture
def server(project: Project) -> Iterator[Server]:
    """Starts `quintet serve` with arguments, and returns its address once it answers."""
    running = []

    def start(*arguments: str) -> str:
        command = [sys.executable, "-u", "-m", "quintet.cli", "serve", str(project.root), "--port", "0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        running.append(process)
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://[\d.:]+", line)))
        with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
            client.get(f"{url}/health", timeout=20)
        return url

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def test_the_key_alone_is_on_standard_output_and_is_shown_this_once(quintet: Shell, project: Project) -> None:
    code, out, err = quintet("keys", "create", "-d", "hr", "--name", "front desk", "-p", project.root)
    assert code == 0
    assert KEY.fullmatch(out.strip())
    assert "(front desk) opens hr. Keep it now" in err
    assert "from now on, the server answers nobody without a key" in err
    assert out.strip() not in err
    assert check_key(project, out.strip()) is not None
    for arguments in (("keys", "list"), ("keys", "list", "--json"), ("keys", "history"), ("keys", "history", "--json")):
        assert out.strip().split("_")[2] not in quintet(*arguments, "-p", project.root)[1]
    assert "from now on" not in quintet("keys", "create", "-d", "hr", "-p", project.root)[2]


def test_all_that_is_asked_of_a_key_is_kept(quintet: Shell, project: Project) -> None:
    made = quintet.json(
        "keys", "create", "-d", "hr", "-d", "base", "--role", "admin", "--role", "ask", "--budget", "1M/day",
        "--budget", "60 requests/minute", "--expires", "90d", "--name", "payroll", "-p", project.root,
    )  # fmt: skip
    assert KEY.fullmatch(made.pop("key"))
    (listed,) = quintet.json("keys", "list", "-p", project.root)
    assert listed == made
    assert (made["departments"], made["roles"], made["status"]) == (["hr", "base"], ["ask", "admin"], "valid")
    assert made["budgets"] == [
        {"unit": "requests", "period": "minute", "allowed": 60, "used": 0, "remaining": 60},
        {"unit": "tokens", "period": "day", "allowed": 1_000_000, "used": 0, "remaining": 1_000_000},
    ]
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)


def test_keys_are_listed_for_people(quintet: Shell, project: Project) -> None:
    assert "no key yet: quintet keys create" in quintet("keys", "list", "-p", project.root)[1]
    key = quintet("keys", "create", "--all-departments", "-b", "1M/day", "-p", project.root)[1].strip()
    out = quintet("keys", "list", "-p", project.root)[1]
    assert key.split("_")[1] in out
    assert "0 of 1,000,000" in out


def test_a_revoked_key_is_in_the_history_with_its_reason(quintet: Shell, project: Project) -> None:
    made = quintet.json("keys", "create", "-d", "hr", "-p", project.root)
    code, out, _ = quintet("keys", "revoke", made["id"], "--reason", "sent by mail", "-p", project.root)
    assert code == 0
    assert f"{made['id']} opens nothing since" in out
    assert quintet.json("keys", "list", "-p", project.root)[0]["status"] == "revoked"
    acts = quintet.json("keys", "history", made["id"], "-p", project.root)
    assert [(act["act"], act["reason"]) for act in acts] == [("create key", None), ("revoke key", "sent by mail")]
    assert all("@" in act["who"] for act in acts)
    assert "sent by mail" in quintet("keys", "history", "-p", project.root)[1]


def test_a_whole_key_is_not_repeated_where_an_id_was_expected(quintet: Shell, project: Project) -> None:
    key = quintet("keys", "create", "-d", "hr", "-p", project.root)[1].strip()
    code, out, err = quintet("keys", "revoke", key, "-p", project.root)
    assert code == 8
    assert key not in out + err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name what the key opens, of: hr, finance, base; or --all-departments"),
        (["-d", "legal"], "'legal'; there are: hr, finance, base"),
        (["-d", "hr", "--all-departments"], "found both"),
        (["-d", "hr", "-b", "lots"], "expected one such as 1M/day"),
        (["-d", "hr", "--role", "boss"], "expected ask or admin, found 'boss'"),
        (["-d", "hr", "--expires", "soon"], "expected 90d, 12h, or a date"),
        (["-d", "hr", "--expires", "999999999w"], "expected 90d, 12h, or a date"),
        (["-d", "hr", "--expires", "2020-01-31"], "expected a time to come"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    quintet: Shell, project: Project, arguments: list[str], says: str
) -> None:
    code, out, err = quintet("keys", "create", *arguments, "-p", project.root)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.parametrize("way", ["option", "config"])
def test_beyond_this_machine_nothing_is_served_before_there_is_a_key(
    quintet: Shell, project: Project, way: str
) -> None:
    if way == "config":
        configure(project, "{host: 0.0.0.0}")
    code, out, err = quintet("serve", project.root, *(["--host", "0.0.0.0"] if way == "option" else []))
    assert (code, out) == (2, "")
    assert "quintet keys create --department hr" in err
    assert "quintet serve --no-keys" in err


@pytest.mark.slow
def test_a_server_may_be_open_to_all_when_told_so_in_so_many_words(server: Server, project: Project) -> None:
    configure(project, "{host: 0.0.0.0, keys: off}")
    url = server()
    assert httpx.post(f"{url}/api/infer/base", json={"query": "Hello?", "max_tokens": 1}, timeout=30).status_code == 200


def test_a_key_that_is_revoked_meanwhile_opens_nothing_on_a_running_server(
    quintet: Shell, project: Project, server: Server
) -> None:
    made = quintet.json("keys", "create", "-d", "base", "-b", "1k/day", "-p", project.root)
    url = server("--host", "0.0.0.0")
    ask = {"json": {"query": "Hello?", "max_tokens": 1}, "headers": {"X-API-Key": made["key"]}, "timeout": 30}
    assert httpx.post(f"{url}/api/infer/base").status_code == 401
    assert httpx.post(f"{url}/api/infer/base", **ask).status_code == 200  # type: ignore[arg-type]
    assert quintet.json("keys", "list", "-p", project.root)[0]["budgets"][0]["used"] > 0
    assert quintet("keys", "revoke", made["id"], "-p", project.root)[0] == 0
    assert httpx.post(f"{url}/api/infer/base", **ask).status_code == 401  # type: ignore[arg-type]


def test_a_crash_shows_no_key(project: Project, tmp_path: Path) -> None:
    """What typer prints of an unexpected error holds no values of variables."""
    script = (
        "import sys, quintet.registry.keys as keys, quintet.cli as cli\n"
        "keys._key_of = lambda *_: 1 / 0\n"
        f"sys.argv = ['quintet', 'keys', 'create', '-d', 'hr', '-p', {str(project.root)!r}]\n"
        "cli.main()\n"
    )
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert "ZeroDivisionError" in done.stderr
    assert not KEY.search(done.stdout + done.stderr)
