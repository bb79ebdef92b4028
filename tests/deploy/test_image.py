"""The steps of the CPU image, taken in an empty folder: a clean environment with the wheel in it, and nothing else.

What runs in it is started as the image starts it: read-only, and as another user where root runs the tests. TORCH_INDEX
names an index for torch, as for `make`; without it, pip's own is asked.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from quintet.config import ServingConfig
from tests.deploy.dockerfile import ROOT, read_arguments, read_stages

STRANGER = 54321
"""A user without a name, as orchestrators give them out."""
BASE_BYTES = 150_000_000
"""What the base takes of the image: python:3.12-slim, and tini."""

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
AS_STRANGER: dict[str, Any] = {"user": STRANGER, "group": STRANGER, "extra_groups": []} if IS_ROOT else {}

pytestmark = pytest.mark.slow


def _python_for_all() -> str:
    """Return a Python that every user may run; one below a home often is not."""
    for found in (getattr(sys, "_base_executable", sys.executable), "/usr/local/bin/python3", "/usr/bin/python3"):
        program = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
        try:
            subprocess.run([found, "-c", program], check=True, stderr=subprocess.DEVNULL, cwd="/", **AS_STRANGER)
        except (OSError, subprocess.CalledProcessError):
            continue
        return found
    pytest.skip("no Python 3.11 with pip here that another user may run")


class Image:
    """A folder that stands for the root of the image's file system, in which its steps are taken."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = read_stages()

    def step(self, stage: str, folder: Path, **variables: str) -> None:
        """Take the last RUN of a stage, with the image's paths below the folder."""
        line = re.sub(r"--mount=\S+ ", "", self.stages[stage].values("RUN")[-1])
        command = re.sub(r"(?<![\w.$/}*])(/(?:opt|deploy|wheel|layer)\b)", rf"{self.root}\1", line)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = kept | variables | {"PATH": f"{self.root}/bin:/usr/local/bin:/usr/bin:/bin"}
        subprocess.run(["sh", "-e", "-c", command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    def copy(self, stage: str, folder: Path) -> None:
        """Copy what a stage copies from the project."""
        for origin, sources, _ in self.stages[stage].copied():
            for source in sources if origin is None else ():
                target = folder / Path(source).name
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    target.parent.mkdir(exist_ok=True)
                    shutil.copy(ROOT / source, target)

    def command(self, *words: str) -> "subprocess.Popen[str]":
        """Start the program as the image does, with nothing of this process's environment."""
        environment = {name: self._moved(value) for name, value in self.stages["cpu"].environment().items()}
        return subprocess.Popen(
            words, cwd=self.root / "project", env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, **AS_STRANGER,
        )  # fmt: skip

    def is_well(self, *words: str) -> bool:
        with self.command(*words) as process:
            process.communicate()
        return process.returncode == 0

    def run(self, *words: str) -> str:
        with self.command(*words) as process:
            out, _ = process.communicate()
        assert process.returncode == 0, out
        return out

    def _moved(self, value: str) -> str:
        return re.sub(r"^/(opt|cache|tmp)", rf"{self.root}/\1", value).replace(
            "$PATH", f"{self.root}/bin:/usr/bin:/bin"
        )


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    image = Image(Path(tempfile.mkdtemp(prefix="quintet-image-")))
    try:
        _build(image)
        yield image
    finally:
        subprocess.run(["chmod", "--recursive", "u+w", str(image.root)], check=True)
        shutil.rmtree(image.root)


def _build(image: Image) -> None:
    root = image.root
    root.chmod(0o755)
    for name in ("bin", "opt", "source"):
        (root / name).mkdir()
    (root / "bin" / "python3").symlink_to(_python_for_all())
    image.copy("cpu-packages", root / "deploy")
    torch = {"TORCH_VERSION": read_arguments()["TORCH_VERSION"], "TORCH_CPU_INDEX": os.environ.get("TORCH_INDEX", "")}
    image.step("cpu-packages", root, **torch)
    image.copy("wheel", root / "source")
    image.step("wheel", root / "source")
    image.step("cpu-quintet", root)
    shutil.copytree(f"{root}/layer{root}", root, dirs_exist_ok=True)
    for name in ("project", "cache", "tmp"):
        (root / name).mkdir()
        if IS_ROOT:
            os.chown(root / name, STRANGER, STRANGER)
    subprocess.run(["chmod", "--recursive", "a-w", str(root / "opt")], check=True)


def test_the_wheel_has_every_file_of_the_package(image: Image) -> None:
    (wheel,) = (image.root / "wheel").glob("*.whl")
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name.removeprefix("src/") for name in tracked.split()}


def test_it_is_small_enough_and_holds_nothing_to_install_with(image: Image) -> None:
    taken = subprocess.run(["du", "-sb", str(image.root / "opt")], capture_output=True, text=True, check=True).stdout
    assert BASE_BYTES + int(taken.split()[0]) < 1_500_000_000
    with image.command("python3", "-c", "import pip") as process:
        out, _ = process.communicate()
    assert "No module named 'pip'" in out
    checked = [sys.executable, "-m", "pip", "--python", f"{image.root}/opt/quintet/bin/python", "check"]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(image: Image) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The image's own command, on a port that is free here, once its own health check says that it is well."""
    stage, port = image.stages["cpu"], _free_port()

    def with_port(words: list[str]) -> list[str]:
        return [re.sub(rf"\b{ServingConfig().port}\b", str(port), word) for word in words]

    program = stage.command("ENTRYPOINT")[-1]
    with image.command(program, *with_port(stage.command("CMD"))) as process:
        try:
            until = time.monotonic() + 120
            while not image.is_well(*with_port(stage.command("HEALTHCHECK"))):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < until
            yield process, port
        finally:
            process.kill()


def test_the_server_of_a_read_only_image_answers_as_another_user_and_ends_when_it_is_told_to(image: Image) -> None:
    image.run("quintet", "init", ".")
    with image.command("quintet", *image.stages["cpu"].command("CMD")) as refused:
        out, _ = refused.communicate()
    assert "there are no keys; make one: quintet keys create" in out
    (key,) = re.findall(r"qk_\w+", image.run("quintet", "keys", "create", "--all-departments"))
    question: dict[str, Any] = {"query": "Hello?", "max_tokens": 4}
    with serving(image) as (process, port):
        answer = httpx.post(f"http://127.0.0.1:{port}/api/infer/base", json=question, headers={"X-API-Key": key})
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["tokens_generated"] == 4
    assert process.returncode == 0, out
    written = {path.name for path in (image.root / "project").iterdir()}
    assert "quintet.db" in written


def test_the_whole_journey_runs_from_the_wheel_alone(image: Image) -> None:
    (image.root / "project" / "new").mkdir()
    if IS_ROOT:
        os.chown(image.root / "project" / "new", STRANGER, STRANGER)
    where = image.run("python3", "-c", "import quintet; print(quintet.__file__)")
    assert where.startswith(f"{image.root}/opt/quintet/lib/")
    out = image.run("quintet", "quickstart", "new", "--no-serve")
    assert "Held-out questions: token F1 of base and expert" in out
    for department in ("hr", "finance", "sales", "healthcare", "marketing"):
        assert f"{department}: @" in out, out
