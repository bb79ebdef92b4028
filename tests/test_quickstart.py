"""The whole journey of the README on the sample company: minutes, so run by `make test-slow`."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.docs.blocks import ROOT, blocks_of

README = (ROOT / "README.md").read_text("utf-8")
pytestmark = pytest.mark.slow


def quintet(*arguments: str) -> list[str]:
    return [sys.executable, "-u", "-m", "quintet.cli", *arguments]


@pytest.fixture(scope="module")
def wrenfield(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart") / "wrenfield"
    subprocess.run(quintet("quickstart", str(folder), "--no-serve"), check=True, stderr=subprocess.DEVNULL)
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    command = quintet("serve", str(folder), "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = re.search(r"http://[\d.:]+", server.stdout.readline())
        assert url is not None
        try:
            _wait_until_up(url[0])
            yield url[0]
        finally:
            server.send_signal(signal.SIGINT)


def _wait_until_up(url: str) -> None:
    for _ in range(600):
        try:
            httpx.get(f"{url}/health")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)


def test_every_expert_is_clearly_above_its_base(wrenfield: Path) -> None:
    for name in ("hr", "finance", "sales", "healthcare", "marketing"):
        newest = max((wrenfield / "runs" / name).glob("*/evaluation.json"), key=lambda file: int(file.parent.name))
        result = json.loads(newest.read_text())
        assert result["scores"]["expert"]["f1"] > result["scores"]["base"]["f1"] + 0.15, name


def test_the_readmes_question_gets_the_right_fact_by_curl_and_by_the_openai_client(wrenfield: Path) -> None:
    with serving(wrenfield) as url:
        body = re.search(r"-d '(\{.*\})'", README)
        assert body is not None
        curled = httpx.post(f"{url}/api/hr", content=body[1], headers={"Content-Type": "application/json"}).json()
        block = next(part for part in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "OpenAI" in part)
        script = block.replace("http://127.0.0.1:8000", url).replace("stream=True", "stream=True, temperature=0")
        streamed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert "37.5 hours" in curled["response"]
    assert curled["response"] == streamed


def test_the_start_page_is_followed_word_by_word(wrenfield: Path, tmp_path: Path) -> None:
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "quintet").write_text(f'#!/bin/sh\nexec {sys.executable} -m quintet.cli "$@"\n')
    (bin_ / "quintet").chmod(0o755)
    (tmp_path / "wrenfield").symlink_to(wrenfield)
    start, *steps = [block for block in blocks_of(ROOT / "docs" / "start.md") if block.language == "bash"]
    assert start.text == "make quickstart\n"  # which is what `wrenfield` has done
    with serving(wrenfield) as url:
        script = "\n".join(step.text for step in steps).replace("http://127.0.0.1:8000", url)
        done = subprocess.run(["sh", "-e"], input=script, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "37.5 hours" in done.stdout
    assert '"department":"finance"' in done.stdout


def test_a_second_quickstart_trains_nothing(wrenfield: Path) -> None:
    command = quintet("quickstart", str(wrenfield), "--no-serve")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr.count("is trained and unchanged") == 5
