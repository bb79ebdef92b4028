"""Digests beside tags, by a registry that a script stands for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    for name in ("pin_images.py", "Dockerfile", "compose.yaml"):
        shutil.copy(ROOT / "deploy" / name, tmp_path)
    return tmp_path


def run(deploy: Path, *arguments: str, says: str = DIGEST) -> "subprocess.CompletedProcess[str]":
    docker = deploy / "bin" / "docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(f'#!/bin/sh\necho "$@" >> {deploy}/asked\necho {says}\n')
    docker.chmod(0o755)
    environment = os.environ | {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
    command = [sys.executable, str(deploy / "pin_images.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_each_image_of_others_gets_its_digest_and_our_own_none(deploy: Path) -> None:
    assert run(deploy, "--check").returncode == 1
    assert run(deploy).returncode == 0
    dockerfile, compose = ((deploy / name).read_text() for name in ("Dockerfile", "compose.yaml"))
    assert dockerfile.count(f"@{DIGEST}\n") == 2
    assert compose.count(f"@{DIGEST}\n") == 1
    assert run(deploy, "--check").returncode == 0


def test_a_digest_that_is_there_is_replaced(deploy: Path) -> None:
    other = "sha256:" + "cd" * 32
    run(deploy)
    run(deploy, says=other)
    assert (deploy / "Dockerfile").read_text().count(f"@{other}\n") == 2
    assert DIGEST not in (deploy / "Dockerfile").read_text()
    assert DIGEST not in (deploy / "asked").read_text()


def test_what_is_no_digest_is_refused(deploy: Path) -> None:
    before = (deploy / "Dockerfile").read_text()
    done = run(deploy, says="not-found")
    assert done.returncode == 1
    assert "expected a digest such as sha256:0123..., found 'not-found'" in done.stderr
    assert (deploy / "Dockerfile").read_text() == before
