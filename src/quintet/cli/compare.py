"""`quintet compare`: methods on one department's held-out questions."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from quintet.cli.console import (
    HERE,
    AsJson,
    ConsoleReporter,
    Folder,
    err,
    out,
    print_json,
)
from quintet.config import Project

if TYPE_CHECKING:
    pass
from quintet.cli.evaluate import describe
from quintet.evaluation.assess import Worth, measure


def compare(
    department: Annotated[str, typer.Argument(help="The department.")],
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = "lora,qlora,prefix",
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare methods on one department's held-out questions; what is not trained yet is trained.

    The first method is the one that the others are held against. Nothing is released.

    [bold]Example:[/] quintet compare hr --methods lora,qlora,prefix
    """
    opened = Project.load(project)
    opened.department(department)
    found = [
        _trained_by(opened, department, method) for method in dict.fromkeys(part.strip() for part in methods.split(","))
    ]
    if as_json:
        print_json([describe(one) | {"difference": f1_difference(one, found[0])} for one in found])
        return
    table = Table("method", "expert", box=SIMPLE_HEAD)
    for heading in ("time", "MB", "F1", f"against {found[0].expert.method}", "95% interval"):
        table.add_column(heading, justify="right")
    for one in found:
        difference = f1_difference(one, found[0])
        f1 = "" if one.evaluation is None else f"{one.evaluation.scores['expert']['f1']:.2f}"
        beside = ("", "") if difference is None else (
            f"{difference['mean']:+.2f}", f"{difference['low']:+.2f} to {difference['high']:+.2f}",
        )  # fmt: skip
        expert = one.expert
        table.add_row(expert.method, expert.name, f"{expert.seconds:.0f} s", f"{expert.megabytes:.1f}", f1, *beside)
    out.print(table)


def _trained_by(project: Project, department: str, method: str) -> Worth:
    from quintet.cli.train import train_each
    from quintet.training.preparation import plan_run
    from quintet.training.run import find_trained

    with err.status(f"Checking the data of {department}"):
        known = find_trained(project, plan_run(project, department, method), newest=False)
    expert = known or train_each(project, [department], method)[0]
    return measure(project, expert, ConsoleReporter(), again=False)


def f1_difference(one: Worth, first: Worth) -> "dict[str, float] | None":
    """Return the mean difference of token F1 on the same questions, and its interval, where both were measured."""
    from quintet.evaluation.bootstrap import paired_interval
    from quintet.evaluation.compare import SEED, f1_of_each

    if one is first or one.evaluation is None or first.evaluation is None:
        return None
    return asdict(paired_interval(f1_of_each(one.evaluation), f1_of_each(first.evaluation), seed=SEED))
