"""`quintet evaluate`, `compare` and `forgetting`: what experts are worth, as tables, pages, JSON and XML."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import (
    HERE,
    AsJson,
    ConsoleReporter,
    Departments,
    Folder,
    attempt_each,
    choose,
    out,
    print_json,
    progress,
)
from quintet.cli.router import evaluate_router
from quintet.config import Project
from quintet.evaluation.assess import Worth

if TYPE_CHECKING:
    from quintet.evaluation.results import Interval

ROUTER = "router"
"""What can be evaluated beside experts; no department may have the name."""


def evaluate(
    departments: Annotated[
        list[str] | None, typer.Argument(help="Departments, experts such as hr@2, or 'router'; a department's newest.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Evaluate every department.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the gate's verdicts as JUnit XML.")] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare expert, base and live release on held-out questions, and say whether the gate lets the expert through.

    Leaves evaluation.json and report.html in the run's folder. 'router' measures how well departments are told apart.

    [bold]Examples:[/] quintet evaluate hr · quintet evaluate hr@2 --junit gate.xml · quintet evaluate --all --json
    """
    from quintet.evaluation.assess import measure
    from quintet.evaluation.records import write_junit
    from quintet.registry.experts import find_expert

    opened = Project.load(project)
    if departments == [ROUTER]:
        evaluate_router(opened, as_json=as_json)
        return
    names = list(dict.fromkeys(departments if departments and not all_ else choose(opened, departments, all_)))
    found = attempt_each(names, lambda name: measure(opened, find_expert(opened, name), ConsoleReporter(), again=True))
    if junit is not None:
        write_junit(junit, [(one.evaluation, one.verdicts) for one in found if one.evaluation])
    if as_json:
        print_json([describe(one) for one in found])
    else:
        for one in found if len(names) == 1 else ():
            out.print(_metrics_table(one))
        out.print(results_table(found))
        tell_verdicts(found)
    if len(found) < len(names):
        raise typer.Exit(1)


def results_table(found: Sequence[Worth]) -> Table:
    """Return what each expert took and what it is worth, where that was measured."""
    title = "Held-out questions: token F1 of base and expert"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    table.add_column("expert", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for heading in ("time", "GB", "MB", "base", "F1", "exact"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("gate", no_wrap=True)
    for one in found:
        expert = one.expert
        peak = "" if expert.peak_bytes is None else f"{expert.peak_bytes / 1e9:.1f}"
        cost = (f"{expert.seconds:.0f} s", peak, f"{expert.megabytes:.1f}")
        table.add_row(expert.name, expert.method, *cost, *_worth(one))
    return table


def _worth(found: Worth) -> tuple[str, ...]:
    if found.evaluation is None:
        return ()
    base, expert = found.evaluation.scores["base"], found.evaluation.scores["expert"]
    better = "green" if found.evaluation.comparisons["base"].intervals["f1"].low > 0 else "red"
    scores = (f"{base['f1']:.2f}", f"[bold {better}]{expert['f1']:.2f}[/]", f"{expert['exact_match']:.0%}")
    gate = "[green]pass[/]" if found.passed else "[bold red]block[/]"
    return (*scores, gate)


def tell_verdicts(found: Sequence[Worth]) -> None:
    """Print which rule blocks which expert, and where the reports lie."""
    from quintet.evaluation.records import REPORT_FILE

    for one in found:
        for verdict in one.verdicts:
            if not verdict.passed:
                out.print(f"[red]{one.expert.name} is blocked:[/] {escape(verdict.said)}", soft_wrap=True)
    for one in found:
        if one.evaluation is not None:
            out.print(f"{one.expert.folder.parent / REPORT_FILE}", style="dim", soft_wrap=True, markup=False)


def _metrics_table(found: Worth) -> Table:
    """Return every metric of all contestants, with the difference to the base and its interval."""
    from quintet.evaluation.reports.metric_words import describe as describe_metrics

    evaluation = found.evaluation
    if evaluation is None:
        return Table()
    against = evaluation.comparisons["base"]
    others = [key for key in evaluation.names if key != "expert"]
    table = Table("metric", box=SIMPLE_HEAD)
    for heading in (*(evaluation.names[key] for key in others), found.expert.name, "difference", "95% interval"):
        table.add_column(heading, justify="right")
    for metric in describe_metrics(evaluation.scores["expert"]):
        values = [metric.show(evaluation.scores[key][metric.key]) for key in (*others, "expert")]
        table.add_row(metric.name, *values, *_interval(against.intervals.get(metric.key), metric.show_signed))
    wins = against.outcomes
    table.caption = f"of {len(evaluation.items)} questions {wins.wins} won, {wins.ties} tied, {wins.losses} lost"
    table.caption_justify = "left"
    return table


def _interval(found: "Interval | None", show: Any) -> tuple[str, str]:
    return ("", "") if found is None else (show(found.mean), f"{show(found.low)} to {show(found.high)}")


def describe(found: Worth) -> dict[str, Any]:
    """Return an expert, what was measured of it, and the gate's verdicts, as `--json` prints them."""
    expert, evaluation = found.expert, found.evaluation
    values: dict[str, Any] = {
        "department": expert.department,
        "expert": expert.name,
        "method": expert.method,
        "trained": expert.trained,
        "parent": expert.parent,
        "peak_bytes": expert.peak_bytes,
        "examples": expert.examples,
        "seconds": expert.seconds,
        "megabytes": round(expert.megabytes, 2),
        "folder": str(expert.folder),
    }
    if evaluation is not None:
        values["scores"] = evaluation.scores
        values["differences"] = {other: asdict(one) for other, one in evaluation.comparisons.items()}
        values["gate"] = {"passed": found.passed, "rules": [asdict(verdict) for verdict in found.verdicts]}
    return values


def forgetting(
    departments: Departments = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what each expert learnt and forgot: every one on every department's questions, and on general ones.

    A department's live expert is taken, or its newest. Numbers are perplexities of the reference answers, as multiples
    of the base's: below 1 is learnt, above 1 forgotten. Writes runs/forgetting.html; the
    registry keeps them too, and a server shows them.

    [bold]Examples:[/] quintet forgetting · quintet forgetting hr finance --json
    """
    from quintet.evaluation.assess import live_expert
    from quintet.evaluation.forgetting import measure_forgetting
    from quintet.evaluation.reports.forgetting_page import forgetting_page
    from quintet.files import write_text
    from quintet.registry.evidence import write_forgetting
    from quintet.registry.experts import newest_expert

    opened = Project.load(project)
    names = choose(opened, departments, not departments)
    experts = [one for name in names if (one := live_expert(opened, name) or newest_expert(opened, name))]
    with progress() as bars:
        task = bars.add_task("forgetting", total=len(experts) + 1, note="")
        matrix = measure_forgetting(opened, experts, lambda count: bars.advance(task, count))
    page = opened.runs / "forgetting.html"
    write_text(page, forgetting_page("What each expert learnt and forgot", matrix, opened.config.company))
    write_forgetting(opened, asdict(matrix))
    if as_json:
        print_json(asdict(matrix))
        return
    table = Table("", *matrix.sets, box=SIMPLE_HEAD)
    table.add_row("base", *(f"{value:.1f}" for value in matrix.base))
    for name, row in zip(matrix.experts, matrix.perplexity, strict=True):
        ratios = [value / base for value, base in zip(row, matrix.base, strict=True)]
        table.add_row(name, *(f"[{'green' if ratio < 1 else 'yellow'}]x{ratio:.2f}[/]" for ratio in ratios))
    out.print(table)
    out.print(str(page), style="dim", soft_wrap=True, markup=False)
