"""Projects and experts for the registry's tests: files and rows alone, so that a process that makes them is light."""

import json
from pathlib import Path
from typing import Any

import yaml

from quintet.config import Project
from quintet.files import digest_files
from quintet.registry.experts import Expert, new_run, publish

FILES = ("adapter_config.json", "adapter_model.safetensors")


def make_project(root: Path, **registry: str | None) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    departments = {name: {"description": name, "data": f"{name}.jsonl"} for name in ("hr", "finance")}
    (root / "quintet.yaml").write_text(
        yaml.safe_dump({"departments": departments, "registry": registry}, sort_keys=False)
    )
    return Project.load(root)


def stage(run: Path, weights: str = "") -> tuple[Path, Expert]:
    """Write what a training leaves: the staged folder, and the expert that it is to become."""
    staged = run / "expert.part"
    staged.mkdir()
    for name in (*FILES, "tokenizer.json"):
        (staged / name).write_text(name)
    (staged / FILES[1]).write_text(FILES[1] + weights)
    (staged / "chat_template.jinja").write_text("{{ messages }}")
    (staged / "README.md").write_text("A model card")
    (run / "config.yaml").write_text(json.dumps({"training": {"epochs": 3, "lora": {"rank": 8}}}))
    return staged, Expert(
        department=run.parent.name,
        version=int(run.name),
        method="lora",
        trained="lora",
        objective="sft",
        parent=None,
        base_model="nano",
        base_digest="b" * 64,
        data_digest="a" * 64,
        fingerprint="f" * 64,
        digest=digest_files(*(staged / name for name in FILES)),
        files=FILES,
        seconds=1.0,
        peak_bytes=80_000_000_000,
        examples=12,
        folder=run / "expert",
    )


def make_expert(project: Project, department: str = "hr", weights: str = "") -> Expert:
    staged, expert = stage(new_run(project, department), weights)
    return publish(staged, expert, project)


def evidence_of(project: Project, *, live: str | None = None, passed: bool = True, **more: Any) -> dict[str, Any]:
    """Return what an evaluation of hr@1 leaves, by hand."""
    names = {"base": "base", "expert": "hr@1", **({"live": live} if live else {})}
    return {
        "questions": 40,
        "metric": "f1",
        "names": names,
        "scores": {name: {"f1": 0.5} for name in names},
        "differences": {},
        "verdicts": [{"rule": "specific", "passed": passed, "found": 0.1, "limit": 0.0, "said": "it fits"}],
        "rules": project.gate("hr").model_dump(mode="json"),
        **more,
    }
