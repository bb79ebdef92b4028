"""The commands of docs/deploy, as far as they can be looked up without a container or a cluster."""

import re
import shlex
from typing import Any

import pytest
import typer

from quintet.cli import app as cli
from quintet.config.parsing import parse_config
from tests.deploy.dockerfile import ROOT
from tests.deploy.manifests import load

GUIDES = ROOT / "docs" / "deploy"
PROGRAM = re.compile(r"(?:quintet:cpu|run --rm cpu|-- quintet) ([a-z][^\n)`]*)")


def blocks(name: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", (GUIDES / name).read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["container.md", "kubernetes.md"])
def test_a_guides_commands_are_ones_that_the_program_understands(name: str) -> None:
    found = [shlex.split(words.rstrip('"')) for block in blocks(name) for words in PROGRAM.findall(block)]
    assert len(found) >= 2
    for words in found:
        command: Any = typer.main.get_command(cli)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        with command.make_context(command.name, words):
            pass


def test_the_container_guide_names_every_variable_of_compose_and_no_other() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy" / "compose.yaml").read_text())) | {"HF_TOKEN"}
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", (GUIDES / "container.md").read_text("utf-8"), re.MULTILINE))
    assert told == used


def test_the_kubernetes_guide_makes_the_secrets_that_the_pods_and_prometheus_read() -> None:
    text = "\n".join(blocks("kubernetes.md"))
    made = {
        name: set(re.findall(r"--from-literal=([\w-]+)=", rest))
        for name, rest in re.findall(r"create secret generic ([\w-]+) ((?:[^\n]*\\\n)*[^\n]*)", text)
    }
    read: dict[str, set[str]] = {}
    for each in load("gpu").environment.values():
        reference = each["valueFrom"]["secretKeyRef"]
        if not reference.get("optional"):
            read.setdefault(reference["name"], set()).add(reference["key"])
    (endpoint,) = load("gpu")["ServiceMonitor"]["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    assert made == read | {credentials["name"]: {credentials["key"]}}


def test_the_kubernetes_guides_registry_is_the_pods() -> None:
    (written,) = [block for block in blocks("kubernetes.md") if block.startswith("registry:")]
    config = parse_config("departments: {hr: {description: Leave, data: hr.jsonl}}\n" + written, GUIDES)
    assert config.registry == load("gpu").config.registry


def test_the_kubernetes_guide_names_the_overlays_that_there_are() -> None:
    text = (GUIDES / "kubernetes.md").read_text("utf-8")
    there = {folder.name for folder in (ROOT / "deploy" / "kubernetes" / "overlays").iterdir()}
    assert set(re.findall(r"^\| `([a-z]+)` \| (?:any|Amazon|Google|Azure)", text, re.MULTILINE)) == there
    assert set(re.findall(r"kubernetes/overlays/(\w+)", text)) <= there
