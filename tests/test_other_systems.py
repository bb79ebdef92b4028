"""What Windows and macOS have, as far as Linux can pretend to be them."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from quintet.config import Project

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "src").rglob("*.py")]
UNIX_ALONE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}
WINDOWS = """
import asyncio, signal, sys
sys.modules["resource"] = None
del signal.SIGHUP

class Loop(asyncio.SelectorEventLoop):
    def run_forever(self):
        signal.set_wakeup_fd(self._csock.fileno())  # as the loop of Windows does
        super().run_forever()

    def add_signal_handler(self, *_):
        raise NotImplementedError

import uvicorn
uvicorn.Config.get_loop_factory = lambda self: Loop
"""
SERVER = """
from pathlib import Path
from quintet.config import Project
from quintet.engine.interface import DeviceInfo, EngineStatus
from quintet.server import process
from quintet.server.app import create_app

class Idle:
    device, context_length, status = DeviceInfo("cpu"), 256, EngineStatus()

    async def close(self):
        print("closed", flush=True)

class Ready(process.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("ready", flush=True)

process.Server = Ready
listener = process.listen("127.0.0.1", 0)
project = Project.load(Path(sys.argv[1]))
process.run(create_app(project, Idle()), listener, project.config.serving)
"""


def test_no_module_that_only_unix_has_is_needed_to_import_the_package() -> None:
    for source in SOURCES:
        tree = ast.parse(source.read_text("utf-8"))
        for node in tree.body:  # those within functions are asked for where they are
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {*names, getattr(node, "module", None)} & UNIX_ALONE, source


def test_processes_are_not_forked() -> None:
    for source in SOURCES:
        text = source.read_text("utf-8")
        assert not re.search(r"os\.fork\(|get_context\(\"fork|set_start_method\(\"fork", text), source
        assert "multiprocessing.Process(" not in text, source  # which is forked by default on Linux before 3.14


def test_text_is_read_and_written_in_utf_8_whatever_the_system_prefers() -> None:
    for source in SOURCES:
        for call in (node for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
                given = [*map(ast.unparse, call.args), *(f"{k.arg}={ast.unparse(k.value)}" for k in call.keywords)]
                kernel = ast.unparse(call.func.value) in ("STATUS", "CLEAR")
                assert kernel or any("utf-8" in words for words in given), f"{source}:{call.lineno}"


def test_no_two_files_of_the_repository_differ_in_case_alone_and_none_is_a_link() -> None:
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git, or not a clone")
    rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
    assert [name for name, times in Counter(row[3].lower() for row in rows).items() if times > 1] == []
    assert [row[3] for row in rows if row[0] == "120000"] == []
    assert [row[3] for row in rows if re.search(r'[<>:"|?*\\]|[. ]$', row[3])] == []


@pytest.mark.slow  # beside much other work it has been seen to wait for a minute, and nobody knows yet for what
def test_a_server_ends_well_where_the_loop_takes_no_signals_and_there_is_no_sighup(project: Project) -> None:
    command = [sys.executable, "-c", WINDOWS + SERVER, str(project.root)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        killer = threading.Timer(60, server.kill)
        killer.start()
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        server.send_signal(signal.SIGINT)
        assert server.stdout.read() == "closed\n"
        killer.cancel()
    assert server.returncode == 0


def test_an_old_encoding_of_a_pipe_stops_no_command(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quintet.cli", "releases", "日本語", "-p", str(project.root)],
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert rb"\u65e5" in done.stderr
    assert b"Traceback" not in done.stderr


# Double-clicking


def pretend_to_be_installed(folder: Path) -> None:
    program = folder / ".venv" / "bin" / "quintet"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$PWD $*"\n')
    program.chmod(0o755)


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")
def test_quickstart_sh_runs_the_quickstart_beside_itself_wherever_it_is_called_from(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    pretend_to_be_installed(folder)
    shutil.copy(ROOT / "quickstart.sh", folder)
    done = subprocess.run(["sh", str(folder / "quickstart.sh")], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder} quickstart wrenfield\n"


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")
def test_quickstart_sh_says_what_is_missing_where_there_is_no_python(tmp_path: Path) -> None:
    shutil.copy(ROOT / "quickstart.sh", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("dirname", "sh"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(["sh", str(tmp_path / "quickstart.sh")], env={"PATH": str(tmp_path / "bin")},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr


def test_quickstart_bat_is_what_cmd_reads() -> None:
    written = (ROOT / "quickstart.bat").read_bytes()
    assert written.count(b"\n") == written.count(b"\r\n")
    assert written.isascii()
    labels = set(re.findall(rb"^:(\w+)\r$", written, re.MULTILINE))
    assert set(re.findall(rb"goto (\w+)", written)) <= labels
    assert b".venv\\Scripts\\quintet quickstart wrenfield" in written
    assert b"eol=crlf" in (ROOT / ".gitattributes").read_bytes()
