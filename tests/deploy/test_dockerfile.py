"""deploy/Dockerfile against the project: no engine builds it here, so what it names is looked up."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

from quintet.cli import app as cli
from quintet.config import ServingConfig
from quintet.server.api import status
from quintet.server.middleware.auth import OPEN_PATHS
from tests.deploy.dockerfile import DOCKERFILE, ROOT, is_sent, read_arguments, read_stages

STAGES = read_stages()
IMAGES = ("cpu", "cuda")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "deploy" / "requirements.txt").read_text()
PORT = ServingConfig().port

each_image = pytest.mark.parametrize("image", IMAGES)


def test_a_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_the_two_images_differ_only_in_what_they_are_built_from() -> None:
    cpu, cuda = (json.dumps(STAGES[image].steps) for image in IMAGES)
    assert cpu.replace("cpu-", "cuda-") == cuda
    assert [STAGES[image].base for image in IMAGES] == ["cpu-base", "cuda-base"]


def test_what_is_copied_from_the_project_is_there_and_is_sent_to_the_builder() -> None:
    sources = {
        source for stage in STAGES.values() for origin, sources, _ in stage.copied() if not origin for source in sources
    }
    assert sources >= {"src", "pyproject.toml", "deploy/requirements.txt"}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source


def test_what_is_copied_from_a_stage_is_from_one_before() -> None:
    before: list[str] = []
    for name, stage in STAGES.items():
        origins = [origin for origin, _, _ in stage.copied() if origin]
        assert set(origins) <= set(before), name
        assert stage.base.startswith("${") or stage.base in before, name
        before.append(name)


def test_a_builder_gets_nothing_but_what_is_copied() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    sent = {file.split("/")[0] for file in files if file and is_sent(file)}
    assert sent == {"src", "deploy", "pyproject.toml", "README.md", "LICENSE"}
    assert not is_sent(".git/config")
    assert not is_sent("src/quintet/__pycache__/cli.cpython-312.pyc")
    assert not is_sent("wrenfield/quintet.db")


def test_what_the_wheel_is_built_from_is_what_its_build_reads() -> None:
    copied = [source for _, sources, _ in STAGES["wheel"].copied() for source in sources]
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= set(copied)
    assert any(line.endswith("pip wheel --no-deps --wheel-dir /wheel .") for line in STAGES["wheel"].values("RUN"))


@each_image
def test_the_code_is_a_layer_after_all_that_it_needs(image: str) -> None:
    assert [origin for origin, _, _ in STAGES[image].copied()] == [f"{image}-packages", f"{image}-quintet"]
    packages = STAGES[f"{image}-packages"]
    assert not any("src" in sources for _, sources, _ in packages.copied())


@each_image
def test_nothing_is_installed_in_the_last_stage_and_nothing_in_its_base_builds(image: str) -> None:
    assert STAGES[image].values("RUN") == []
    (installed,) = STAGES[f"{image}-base"].values("RUN")
    (packages,) = re.findall(r"--no-install-recommends (.*?) &&", installed)
    assert set(packages.split()) <= {"python3", "tini"}


def test_no_step_fetches_weights() -> None:
    steps = " ".join(
        value for stage in STAGES.values() for name, value in stage.steps if name in ("RUN", "COPY", "ADD")
    )
    assert not re.search(r"hugg|snapshot|curl|wget|safetensors|https?:", steps, re.IGNORECASE)


@each_image
def test_it_runs_as_a_number_that_is_not_roots_and_owns_what_it_writes_to(image: str) -> None:
    assert STAGES[image].values("USER") == ["10001:10001"]
    (made,) = STAGES[f"{image}-base"].values("RUN")
    assert "useradd --uid 10001 " in made
    (owned,) = re.findall(r"install --directory --owner=10001 --group=10001 (.*)$", made)
    home = STAGES[image].environment()["HOME"]
    assert set(owned.split()) == {home, *STAGES[image].values("WORKDIR")}
    assert STAGES[image].environment()["HF_HOME"].startswith(home)


@each_image
def test_the_command_is_one_that_the_program_understands(image: str) -> None:
    entry, command = STAGES[image].command("ENTRYPOINT"), STAGES[image].command("CMD")
    assert entry == ["tini", "--", *PROJECT["scripts"]]
    program: Any = typer.main.get_command(cli)
    serve = program.commands[command[0]]
    with serve.make_context("serve", command[1:]) as context:
        assert (context.params["host"], context.params["port"]) == ("0.0.0.0", PORT)
        assert context.params["folder"] == Path()


@each_image
def test_its_port_is_the_servers(image: str) -> None:
    assert STAGES[image].values("EXPOSE") == [str(PORT)]
    assert f"http://127.0.0.1:{PORT}/health" in STAGES[image].command("HEALTHCHECK")[-1]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers all with one status; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_tells_a_server_that_is_well_from_one_that_is_not(status: int, code: int) -> None:
    program, *rest = STAGES["cpu"].command("HEALTHCHECK")
    assert program == "python3"
    with answering(status) as port:
        command = [sys.executable, *(word.replace(f":{PORT}/", f":{port}/") for word in rest)]
        assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == code


def test_the_health_check_asks_a_route_that_needs_no_key() -> None:
    (path,) = re.findall(rf":{PORT}(/\w+)", STAGES["cpu"].command("HEALTHCHECK")[-1])
    assert path in OPEN_PATHS
    assert path in [getattr(route, "path", None) for route in status.router.routes]


def test_torch_is_of_a_version_that_the_project_allows_and_the_same_in_both_images() -> None:
    assert "torch" not in locked()
    (allowed,) = [wanted for wanted in requirements() if wanted.name == "torch"]
    assert read_arguments()["TORCH_VERSION"] in allowed.specifier
    assert DOCKERFILE.read_text().count("ARG TORCH_VERSION=") == 2
    assert "TORCH_VERSION=" + read_arguments()["TORCH_VERSION"] + "\n" in DOCKERFILE.read_text().partition("cpu-")[2]


def requirements() -> list[Requirement]:
    """Return what the package needs in an image: itself, and by the extras that the lock was made with."""
    extras = tomllib.loads((ROOT / "deploy" / "uv.toml").read_text())["pip"]["extra"]
    named = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    return [Requirement(one) for one in named]


def locked() -> dict[str, list[str]]:
    """Return the versions that the lock holds of each package; some are for other versions of Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", LOCK, re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


def test_the_lock_holds_each_requirement_in_a_version_that_the_project_allows() -> None:
    for wanted in requirements():
        versions = locked().get(wanted.name.lower(), [])
        if wanted.name == "torch":
            continue
        assert versions, f"{wanted.name} is not locked: make lock"
        assert all(version in wanted.specifier for version in versions), f"{wanted.name}: make lock"


def test_each_line_of_the_lock_has_a_hash() -> None:
    blocks = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@each_image
def test_an_image_can_run_all_that_it_may_be_configured_for(image: str) -> None:
    """What needs an extra in quintet.yaml or in the environment: a registry, stores, caches, traces, tools."""
    (line,) = [line for line in STAGES[f"{image}-packages"].values("RUN") if "install.sh" in line]
    assert "/deploy/install.sh packages /opt/quintet" in line
    assert {"psycopg", "redis", "s3fs", "gcsfs", "adlfs", "mcp", "opentelemetry-sdk"} <= locked().keys()
