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

from quintet.cli.console import HERE, Folder, err, out
from quintet.config import Project
from quintet.errors import TrainingError

if TYPE_CHECKING:
    from quintet.training.plan import Estimate

METHODS = "full,lora,qlora,prefix,dpo"
bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@dataclass(frozen=True)
class Row:
    """What one method took and gave; F1 is None where nothing was trained to its end."""

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
        cells = (self.method, f"{self.trainable / 1e6:.2f} M", f"{self.seconds:,.0f}", f"{self.tokens_per_second:,.0f}",
                 f"{self.peak_bytes / 1e9:.2f}", f"{self.artifact_bytes / 1e6:,.1f}", *scores)  # fmt: skip
        return "| " + " | ".join(cells) + " |"


HEAD = """| method | trained | seconds | tokens/s | peak GB | expert MB | base F1 | F1 |
|---|---|---|---|---|---|---|---|"""


@bench.callback()
def _group() -> None:
    """Measure this machine."""


@bench.command()
def training(
    department: Annotated[str, typer.Argument(help="The department whose data is trained.")],
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = METHODS,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Time a few steps of each instead of training to the end.")
    ] = False,
    target: Annotated[Path | None, typer.Option("--out", help="Append the table to this Markdown file.")] = None,
    project: Folder = HERE,
) -> None:
    """Train a department by each method, and print time, speed, memory, size and held-out F1 as a Markdown table.

    Nothing of the project changes: a copy of it is trained.

    [bold]Examples:[/] quintet bench training hr · quintet bench training hr --methods lora,qlora --plan-only
    """
    opened = Project.load(project)
    opened.department(department)
    lines = [HEAD]
    for method in methods.split(","):
        with err.status(f"Measuring {method}"):
            row = _planned(opened, department, method) if plan_only else _trained(opened, department, method)
        lines.append(row.as_markdown())
        err.print(lines[-1], style="dim", markup=False, soft_wrap=True)
    table = "\n".join(lines)
    out.print(table, markup=False, soft_wrap=True)
    if target is not None:
        with target.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{opened.config.base_model}, {department}:\n\n{table}\n")


def _planned(project: Project, department: str, method: str) -> Row:
    return _row(method, _estimate(project, department, method))


def _trained(project: Project, department: str, method: str) -> Row:
    """Train and evaluate in a copy of the project, and return what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(project.root, copy, ignore=shutil.ignore_patterns("runs"))
        arguments = (department, "-p", str(copy), "--json")
        expert = _json("train", *arguments, "--method", method)[0]
        scores = _json("evaluate", *arguments)[0]
    planned = _estimate(project, department, method)
    return _row(method, planned, expert, scores)


def _estimate(project: Project, department: str, method: str) -> "Estimate":
    from quintet.training.plan import estimate
    from quintet.training.preparation import plan_run

    return estimate(project, plan_run(project, department, method))


def _row(
    method: str, planned: "Estimate", expert: dict[str, Any] | None = None, scores: dict[str, Any] | None = None
) -> Row:
    seconds = planned.seconds if expert is None else float(expert["seconds"])
    tokens = planned.tokens_per_epoch * planned.epochs
    return Row(
        method=method,
        trainable=planned.trainable,
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        peak_bytes=planned.peak_bytes if expert is None else expert["peak_bytes"],
        artifact_bytes=planned.artifact_bytes if expert is None else round(expert["megabytes"] * 1e6),
        base_f1=None if scores is None else scores["base"]["f1"],
        f1=None if scores is None else scores["tuned"]["f1"],
    )


def _json(*arguments: str) -> Any:
    """Run a command of ours as a process of its own, so that its memory is its own, and return what it prints."""
    command = [sys.executable, "-m", "quintet.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own command
    if done.returncode:
        raise TrainingError(f"{' '.join(command[2:])} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
