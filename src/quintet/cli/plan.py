"""`quintet plan`: what each run will take, before it starts."""

from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from quintet.cli.console import HERE, AsJson, Folder, complain, err, out, print_json
from quintet.config import Project
from quintet.errors import TrainingError

if TYPE_CHECKING:
    from quintet.training.plan import Estimate


def plan(
    departments: Annotated[
        list[str] | None, typer.Argument(help="Departments, as named in quintet.yaml.", show_default="all")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="Plan another method.", show_default="from quintet.yaml")
    ] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Tell what each run will take on this machine: time, memory and size, by a few real steps of it.

    Exit code 1 when a run will not fit, with the change that would make it fit.

    [bold]Examples:[/] quintet plan · quintet plan hr --method full
    """
    opened = Project.load(project)
    names = list(dict.fromkeys(departments or opened.trained))
    for name in names:
        opened.department(name)
    found = [one for name in names for one in _estimate(opened, name, method)]
    if as_json:
        # JSON has no word for a number that is none.
        print_json([asdict(one) | {"seconds": None if isnan(one.seconds) else one.seconds} for one in found])
    else:
        out.print(_table(found))
        for one in found:
            if not one.fits:
                complain(
                    f"{one.department}: {one.method} needs {one.peak_bytes / 1e9:.1f} GB, and there are "
                    f"{one.available_bytes / 1e9:.1f}; what would fit: {one.advice}"
                )
    if not all(one.fits for one in found):
        raise typer.Exit(1)


def _estimate(project: Project, name: str, method: str | None) -> "list[Estimate]":
    with err.status(f"Timing the first steps of {name}"):
        from quintet.training.plan import estimate, stages
        from quintet.training.preparation import plan_run

        try:
            return [estimate(project, stage) for stage in stages(plan_run(project, name, method))]
        except TrainingError as error:
            complain(str(error))
            raise typer.Exit(1) from None


def _table(found: "list[Estimate]") -> Table:
    table = Table("department", "method", box=SIMPLE_HEAD)
    for heading in ("trained", "rows", "tokens", "steps", "time", "GB", "MB"):
        table.add_column(heading, justify="right")
    for one in found:
        table.add_row(
            one.department, one.method, f"{one.trainable / 1e6:.2f} M", f"{one.rows:,}", f"{one.tokens_per_epoch:,}",
            f"{one.steps:,}", _spoken(one.seconds), f"{one.peak_bytes / 1e9:.1f}", f"{one.artifact_bytes / 1e6:.1f}",
        )  # fmt: skip
    return table


def _spoken(seconds: float) -> str:
    """Return a time as people say it."""
    if isnan(seconds):
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
