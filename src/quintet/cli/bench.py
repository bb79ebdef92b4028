"""`quintet bench`: measured tables for this machine, each run a process of its own."""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from quintet.cli.console import HERE, Folder, complain, err, out
from quintet.config import CONFIG_NAME, Project
from quintet.errors import QuintetError, TrainingError

if TYPE_CHECKING:
    from quintet.training.plan import Estimate

METHODS = "full,lora,qlora,prefix,dpo"
bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@dataclass(frozen=True)
class BenchRow:
    """What one method took and gave; F1 is None where nothing was trained to its end."""

    department: str
    method: str
    trainable: int
    seconds: float
    tokens_per_second: float
    peak_bytes: int
    artifact_bytes: int
    base_f1: float | None = None
    f1: float | None = None

    def as_markdown(self) -> str:
        """Return the row as one of a Markdown table."""
        scores = ("-", "-") if self.f1 is None or self.base_f1 is None else (f"{self.base_f1:.2f}", f"{self.f1:.2f}")
        cells = (self.method, self.department, f"{self.trainable / 1e6:.2f} M", f"{self.seconds:,.0f}",
                 f"{self.tokens_per_second:,.0f}", f"{self.peak_bytes / 1e9:.2f}", f"{self.artifact_bytes / 1e6:,.1f}",
                 *scores)  # fmt: skip
        return "| " + " | ".join(cells) + " |"


HEAD = """| method | department | trained | seconds | tokens/s | peak GB | expert MB | base F1 | F1 |
|---|---|---|---|---|---|---|---|---|"""


@bench.callback()
def _group() -> None:
    """Measure this machine."""


@bench.command()
def training(
    department: Annotated[
        str | None, typer.Argument(help="Train this one by each of the methods.", show_default="each by its own")
    ] = None,
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = METHODS,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Time a few steps of each instead of training to the end.")
    ] = False,
    target: Annotated[Path | None, typer.Option("--out", help="Append the table to this Markdown file.")] = None,
    project: Folder = HERE,
) -> None:
    """Train one department by each method, or each by its own; print time, speed, memory, size and held-out F1.

    Nothing of the project changes: a copy of it is trained, each run in a process of its own.

    [bold]Examples:[/] quintet bench training · quintet bench training hr --methods lora,qlora --plan-only
    """
    opened = Project.load(project)
    lines = [HEAD]
    for name, method in _runs(opened, department, methods):
        with err.status(f"Measuring {name} by {method}"):
            try:
                row = (
                    _row(name, method, _estimate(opened, name, method)) if plan_only else _trained(opened, name, method)
                )
            except QuintetError as error:
                complain(f"{name} by {method} is not measured: {error}")
                continue
        lines.append(row.as_markdown())
        err.print(lines[-1], style="dim", markup=False, soft_wrap=True)
    table = "\n".join(lines)
    out.print(table, markup=False, soft_wrap=True)
    if target is not None:
        with target.open("a", encoding="utf-8") as stream:
            stream.write(f"\nBase {opened.config.base_model}, {_machine()}:\n\n{table}\n")


def _runs(project: Project, department: str | None, methods: str) -> list[tuple[str, str]]:
    if department is None:
        return [(name, project.training(name).method) for name in project.trained]
    project.department(department)
    return [(department, method.strip()) for method in methods.split(",")]


def _machine() -> str:
    from quintet.training.environment import describe_environment

    found = describe_environment(Path())
    gpus = ", ".join(gpu["name"] for gpu in found.get("gpus", ()))
    cpu = found["cpu"]
    return gpus or f"{cpu['model']}, {cpu['cores']} cores"


def _trained(project: Project, department: str, method: str) -> BenchRow:
    """Train and evaluate in a copy of the project, and return what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(project.root, copy, ignore=shutil.ignore_patterns("runs", "quintet.db*"))
        config = copy / CONFIG_NAME
        values = yaml.safe_load(config.read_text("utf-8"))
        if values.pop("registry", None):
            config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        expert = scores = _json("train", department, "-p", str(copy), "--json", "--method", method)[0]
        planned = _estimate(Project.load(copy), department, method)
    return _row(department, method, planned, expert, scores)


def _estimate(project: Project, department: str, method: str) -> "Estimate":
    from quintet.training.plan import estimate
    from quintet.training.preparation import plan_run

    return estimate(project, plan_run(project, department, method))


def _row(
    department: str,
    method: str,
    planned: "Estimate",
    expert: dict[str, Any] | None = None,
    scores: dict[str, Any] | None = None,
) -> BenchRow:
    seconds = planned.seconds if expert is None else float(expert["seconds"])
    tokens = planned.tokens_per_epoch * planned.epochs
    return BenchRow(
        department=department,
        method=method,
        trainable=planned.trainable,
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        peak_bytes=planned.peak_bytes if expert is None else expert["peak_bytes"],
        artifact_bytes=planned.artifact_bytes if expert is None else round(expert["megabytes"] * 1e6),
        base_f1=None if scores is None else scores["scores"]["base"]["f1"],
        f1=None if scores is None else scores["scores"]["expert"]["f1"],
    )


def _json(*arguments: str) -> Any:
    """Run a command of ours as a process of its own, so that its memory is its own, and return what it prints."""
    command = [sys.executable, "-m", "quintet.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own command
    if done.returncode:
        raise TrainingError(f"{' '.join(command[2:])} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
