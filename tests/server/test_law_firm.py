"""The example of docs/keys.md, run as it stands there: eight departments, a partner's key, the front desk's key."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.server.app import create_app
from tests.served import MakeExpert, ScriptedEngine, Serve

EXAMPLE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text("utf-8").partition("## A law firm")[2]


@pytest.fixture
def firm(tmp_path: Path, tiny_base: Path, make_expert: MakeExpert) -> Project:
    (written,) = re.findall(r"```yaml\n(.*?)```", EXAMPLE, re.DOTALL)
    config = yaml.safe_load(written) | {"base_model": str(tiny_base)}
    (tmp_path / "quintet.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    project = Project.load(tmp_path)
    for seed, name in enumerate(project.config.departments):
        make_expert(project, name, seed=seed)
    return project


@pytest.mark.skipif(shutil.which("curl") is None, reason="the example is of curl")
def test_a_partners_key_sees_the_partners_data_and_the_front_desks_its_own(firm: Project, serve: Serve) -> None:
    assert len(firm.config.departments) == 8
    command = firm.root / "bin" / "quintet"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m quintet.cli "$@"\n')
    command.chmod(0o755)
    blocks = re.findall(r"```bash\n(.*?)```", EXAMPLE, re.DOTALL)
    with serve(create_app(firm, ScriptedEngine([Token(40), Token(None, "stop")]))) as url:
        script = "\n".join(blocks).replace("http://127.0.0.1:8000", url).replace("\ncurl", "\necho; curl")
        script += '\necho; echo "$PARTNER"; echo "$DESK"'
        environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-e"], input=script, cwd=firm.root, env=environment, check=True,
                              capture_output=True, text=True)  # fmt: skip
        partner, own, refused, *keys = done.stdout.split("\n")[1:6]
        seen = [[model["id"] for model in httpx.get(f"{url}/v1/models", headers={"X-API-Key": key}).json()["data"]]
                for key in keys]  # fmt: skip
    assert json.loads(partner)["expert"] == "partners@1"
    assert json.loads(own)["expert"] == "front-desk@1"
    assert json.loads(refused)["error"]["message"] == "there is no model named 'partners'; there are: front-desk"
    assert seen == [[*firm.config.departments, "base"], ["front-desk"]]
