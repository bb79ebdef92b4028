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

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
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


def test_a_second_quickstart_trains_nothing(wrenfield: Path) -> None:
    command = quintet("quickstart", str(wrenfield), "--no-serve")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr.count("is trained and unchanged") == 5
