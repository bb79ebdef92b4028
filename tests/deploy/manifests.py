"""The overlays of deploy/kubernetes, rendered, and the schemas that they are held to."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import utils

from quintet.config.parsing import parse_config
from quintet.config.whole import Config
from tests.deploy.dockerfile import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu", "eks", "gke", "aks")
VERSIONS = ("1.31", "1.37")
"""The oldest and the newest of Kubernetes that the manifests are held to."""
SCHEMAS = Path(__file__).parent / "schemas"
Manifest = dict[str, Any]

# Some megabytes that would be read for each manifest.
utils.schema_contents = cache(utils.schema_contents)


@cache
def render(folder: Path) -> tuple[Manifest, ...]:
    """Return what `kubectl kustomize` makes of a folder; skip the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl here")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@dataclass(frozen=True)
class Overlay:
    """The manifests of an overlay, found by their kinds."""

    name: str
    manifests: tuple[Manifest, ...]

    def __getitem__(self, kind: str) -> Manifest:
        (found,) = [each for each in self.manifests if each["kind"] == kind]
        return found

    def has(self, kind: str) -> bool:
        return any(each["kind"] == kind for each in self.manifests)

    @property
    def pod(self) -> dict[str, Any]:
        pod: dict[str, Any] = self["Deployment"]["spec"]["template"]["spec"]
        return pod

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def config(self) -> Config:
        """The project's config, read as the server reads it."""
        return parse_config(self["ConfigMap"]["data"]["quintet.yaml"], Path("quintet.yaml"))

    @property
    def environment(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.container["env"]}


def load(name: str) -> Overlay:
    return Overlay(name, render(KUBERNETES / "overlays" / name))


def faults(manifest: Manifest) -> tuple[str, ...]:
    """Return what a manifest has that its schema does not allow; overlays have many of them in common."""
    return _faults(json.dumps(manifest, sort_keys=True))


@cache
def _faults(manifest: str) -> tuple[str, ...]:
    return tuple(_find(json.loads(manifest)))


def _find(manifest: Manifest) -> Iterator[str]:
    schema = SCHEMAS / f"{manifest['kind']}.json"
    if schema.exists():
        validator = Draft202012Validator(json.loads(schema.read_text()))
        for error in validator.iter_errors(manifest):
            yield f"{manifest['kind']}: {error.json_path}: {error.message}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{manifest['kind']}: {'.'.join(map(str, error.path))}: {error.message}"
