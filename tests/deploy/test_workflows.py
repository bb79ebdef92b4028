"""What runs on GitHub is what runs here: each command and file that the workflows name is there."""

import re
from typing import Any

import pytest
import yaml

import quintet
from tests.deploy.dockerfile import ROOT, read_stages

WORKFLOWS = ROOT / ".github" / "workflows"


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text())
    return loaded


def commands(workflow: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])


def test_continuous_integration_runs_what_a_developer_runs() -> None:
    steps = load("ci.yaml")["jobs"]["test"]["steps"]
    assert steps[-1]["run"] == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_it_runs_on_each_version_of_python_that_the_package_names() -> None:
    tested = load("ci.yaml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert tested == named


@pytest.mark.parametrize("name", ["ci.yaml", "release.yaml"])
def test_a_workflow_may_do_no_more_than_it_must_and_names_files_that_there_are(name: str) -> None:
    workflow = load(name)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for key, job in workflow["jobs"].items() if key != "pypi")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", commands(workflow))) <= targets
    for file in re.findall(r"\b(?:deploy|src)/[\w./]+", str(workflow)):
        assert (ROOT / file).is_file(), file


def test_a_release_is_of_the_version_that_the_package_says() -> None:
    line = f'__version__ = "{quintet.__version__}"'
    assert line in (ROOT / "src" / "quintet" / "__init__.py").read_text().split("\n")
    assert '__version__ = \\"${GITHUB_REF_NAME#v}\\"' in commands(load("release.yaml"))


def test_both_images_are_released_pinned_and_with_a_list_of_what_is_in_them() -> None:
    job = load("release.yaml")["jobs"]["images"]
    assert all(target in read_stages() for target in job["strategy"]["matrix"]["target"])
    assert "deploy/pin_images.py --check" in str(job)
    (build,) = [step["with"] for step in job["steps"] if "build-push" in step.get("uses", "")]
    assert (build["sbom"], build["provenance"]) == (True, "mode=max")
