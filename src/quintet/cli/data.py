"""`quintet data …`: look at the data before anything is trained on it."""

import gc
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import HERE, AsJson, Folder, complain, err, out, print_json
from quintet.cli.documents import from_documents
from quintet.cli.feedback import from_feedback
from quintet.cli.show import show
from quintet.config import Project
from quintet.errors import DataError

if TYPE_CHECKING:
    from quintet.data.report import FileReport, Finding, Report

BLOCKS = " ▁▂▃▄▅▆▇█"
SHOWN = 3

data = typer.Typer(help="Look at the data before anything is trained on it.", no_args_is_help=True)
data.command()(show)
data.command("from-documents")(from_documents)
data.command("from-feedback")(from_feedback)


@data.command()
def check(
    departments: Annotated[
        list[str] | None, typer.Argument(help="Departments, as named in quintet.yaml.", show_default="all")
    ] = None,
    near: Annotated[
        bool, typer.Option("--near/--no-near", help="Look for near duplicates, which takes longest.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too, such as personal data.")] = False,
    places: Annotated[int, typer.Option(min=0, max=20, help="Places to print of each kind of finding.")] = SHOWN,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Check every row, and report what a training would stumble over. Exit code 1 if any row is refused.

    [bold]Examples:[/] quintet data check · quintet data check hr --places 20 · quintet data check --strict --json
    """
    opened = Project.load(project)
    names = list(dict.fromkeys(departments or opened.trained))
    for name in names:
        opened.department(name)
    results = [_check(opened, name, near=near) for name in names]
    if as_json:
        print_json([r.as_json() if not isinstance(r, str) else {"department": n, "error": r}
                    for n, r in zip(names, results, strict=True)])  # fmt: skip
    else:
        for name, result in zip(names, results, strict=True):
            _print(name, result, places)
    if any(isinstance(r, str) or r.errors or (strict and r.warnings) for r in results):
        raise typer.Exit(1)


def _check(project: Project, department: str, *, near: bool) -> "Report | str":
    """Return the report, or why a file cannot be read at all."""
    from quintet.chat import ChatTranslator
    from quintet.data.check import check_department
    from quintet.models import base_model

    with err.status(f"Checking the data of {department}") as status:
        source = base_model.locate(project.config.base_model, project.root)
        translator = ChatTranslator(base_model.load_tokenizer(source))
        context = base_model.context_length(source)

        # What is loaded by now stays: going through it for garbage again and again took a third of the time.
        gc.collect()
        gc.freeze()

        def report(rows: int) -> None:
            status.update(f"Checking the data of {department}: {rows:,} rows")

        try:
            return check_department(project, department, translator, context, near=near, progress=report)
        except DataError as error:
            return str(error)


def _print(name: str, result: "Report | str", places: int) -> None:
    out.print(f"\n[bold]{name}[/]")
    if isinstance(result, str):
        complain(result)
        return
    for part in result.parts:
        table = Table(box=None, show_header=False, title=escape(part.path), title_justify="left", title_style="")
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        shapes = ", ".join(f"{shape} ({count:,})" for shape, count in part.shapes.items())
        table.add_row("rows", f"{part.rows:,}: {part.accepted:,} accepted, {part.refused.count:,} refused")
        table.add_row("shape", f"{shapes or 'none'}, {part.groups:,} groups")
        if part.lengths is not None:
            marks = "  ".join(f"{name} {count:,}" for name, count in part.lengths.percentiles.items())
            table.add_row("tokens", f"{marks}  of a context of {part.context:,}")
            table.add_row("", f"0 {_histogram(part.lengths.bins)} {part.lengths.percentiles['max']:,}")
            table.add_row("", f"{part.lengths.total:,} in all, {part.lengths.trained:,} of them trained")
        if part.unused_columns:
            table.add_row("not read", "columns " + ", ".join(f"{c} ({n:,})" for c, n in part.unused_columns.items()))
        for column, counts in part.labels.items():
            table.add_row("labels", f"{column}: {_balance(counts)}")
        out.print(table)
        _print_findings(_findings(part), places)
    _print_findings([("red", "held-out questions that are trained on", result.leaks),
                     ("yellow", "held-out questions almost as trained", result.near_leaks)], places)  # fmt: skip
    if result.no_split:
        out.print(f" [red]{escape(result.no_split)}[/]", soft_wrap=True)
    if result.errors:
        out.print(f"[bold red]{name}: {result.errors:,} to mend before training[/]")
    elif result.warnings:
        out.print(f"[yellow]{name}: can be trained; {result.warnings:,} warnings[/]")
    else:
        out.print(f"[green]{name}: can be trained[/]")


def _histogram(bins: list[int]) -> str:
    highest = max(bins)
    # A bin with anything in it shows at least the lowest block.
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // highest)] for count in bins)


def _balance(counts: dict[str, int]) -> str:
    total, shown = sum(counts.values()), list(counts.items())
    parts = [f"{label} {count:,} ({count / total:.0%})" for label, count in shown[:6]]
    rest = f", and {len(shown) - 6} more, the rarest {shown[-1][0]} {shown[-1][1]:,}" if len(shown) > 6 else ""
    return ", ".join(parts) + rest


def _findings(part: "FileReport") -> list[tuple[str, str, "Finding | None"]]:
    personal = [("yellow", f"personal data or secrets: {kind}", found) for kind, found in part.personal.items()]
    too_long = ("yellow", f"rows over the context ('too_long: {part.too_long_policy}')", part.too_long)
    return [
        ("red", "rows refused", part.refused),
        *([] if part.too_long_policy == "refuse" else [too_long]),
        ("yellow", "rows that repeat another", part.duplicates),
        ("yellow", "questions almost as another", part.near_duplicates),
        ("yellow", "questions with two answers", part.contradictions),
        *personal,
        ("yellow", "text that looks damaged", part.encoding),
    ]


def _print_findings(findings: list[Any], places: int) -> None:
    for style, name, found in findings:
        if found is None or not found.count:
            continue
        out.print(f" [{style}]{found.count:,} {escape(name)}[/]")
        for place in found.places[:places]:
            out.print(f"   {escape(place)}", soft_wrap=True)
        if found.count > places:
            out.print(f"   ... and {found.count - min(places, len(found.places)):,} more", style="dim")
