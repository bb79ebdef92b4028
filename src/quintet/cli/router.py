"""`quintet router train` and `quintet evaluate router`: which department a question is for, learnt and measured."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import HERE, AsJson, Folder, complain, err, out, print_json
from quintet.config import Project
from quintet.errors import QuintetError, RequestError

if TYPE_CHECKING:
    from quintet.router.measuring import RouterScores
    from quintet.router.training import Trained

router = typer.Typer(no_args_is_help=True, help="Find the department that a question is for.")


@router.command("train")
def train_command(
    force: Annotated[bool, typer.Option("--force", help="Train even what is trained and unchanged.")] = False,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Learn from the departments' own questions which of them a question is for. `quintet train` does this too.

    [bold]Example:[/] quintet router train && quintet evaluate router
    """
    trained = _train(Project.load(project), force=force)
    found = trained.router
    if as_json:
        print_json({
            "departments": found.departments, "threshold": found.threshold, "max_error": found.max_error,
            "digest": found.digest, "left_out": trained.problems,
        })  # fmt: skip
        return
    state = "learnt from the training questions of" if trained.questions else "is up to date; it knows"
    out.print(f"The router {state} {', '.join(found.departments)}.", soft_wrap=True)
    out.print("Next: quintet evaluate router", style="dim")


def keep_router(project: Project) -> None:
    """Train the router where what it learns from has changed; that it cannot be is told, and stops nothing."""
    try:
        _train(project)
    except QuintetError as error:
        complain(f"router: {error}")


def find_department(project: Project, question: str) -> str:
    """Return whom a question is for, and say so; raise RequestError when that is not clear."""
    from quintet.router.router import Router, router_path
    from quintet.router.routing import route

    routing = route(Router.load(router_path(project)), project, [question])
    if routing.model is None:
        raise RequestError(f"{routing.said}\nName one with --department.", code="department_unclear")
    sure = f"{routing.ranked[0].probability:.0%} sure" if routing.department else "it is for no department"
    err.print(f"{routing.model} ({sure})", style="dim")
    return routing.model


def evaluate_router(project: Project, *, as_json: bool) -> None:
    """Measure the router on the departments' held-out questions, and print what was found."""
    from quintet.evaluation.general import general_examples
    from quintet.router.measuring import measure_router
    from quintet.router.questions import LabelledQuestion, asked
    from quintet.router.router import Router, router_path
    from quintet.router.training import gather, held_out_of, learnt_digest

    known = Router.load(router_path(project))
    if known.digest != learnt_digest(project):
        err.print("What the router learnt from has changed since: quintet router train", style="yellow")
    questions, _ = gather(project)
    general = [LabelledQuestion(asked(example), None) for example in general_examples(project)]
    scores = measure_router(known, held_out_of(questions, known), general)
    if as_json:
        print_json(asdict(scores) | {"max_error": known.max_error, "handed_on": questions.handed_on})
        return
    _tell(scores, known.max_error, questions.handed_on)


def _train(project: Project, *, force: bool = False) -> "Trained":
    with err.status("Training the router"):
        from quintet.router.training import train_router

        trained = train_router(project, force=force)
    for name, problem in trained.problems.items():
        err.print(f"The router does not know {name}: {escape(problem)}", style="yellow", soft_wrap=True)
    return trained


def _tell(scores: "RouterScores", max_error: float, handed_on: int) -> None:
    out.print(
        f"accuracy [bold]{scores.accuracy:.3f}[/] · macro F1 [bold]{scores.macro_f1:.3f}[/] · calibration error "
        f"{scores.ece:.3f}, on {scores.questions} held-out questions of {len(scores.departments)} departments"
    )
    if handed_on:
        out.print(f"{handed_on} rows whose answers name another department are left out", style="dim")
    table = Table(title="Sent to a department, by how sure it must be", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("threshold", no_wrap=True)
    for heading in ("sent", "of those wrong", "nobody's sent"):
        table.add_column(heading, justify="right", no_wrap=True)
    for at in sorted((*scores.curve, scores.chosen), key=lambda at: at.threshold):
        is_chosen = at is scores.chosen
        name = f"{at.threshold:.2f} (at most {max_error:.0%} wrong)" if is_chosen else f"{at.threshold:.2f}"
        table.add_row(
            name, *(f"{share:.1%}" for share in (at.sent, at.wrong, at.nobodys)), style="bold" if is_chosen else ""
        )
    out.print(table)
    out.print(_confusion(scores))


def _confusion(scores: "RouterScores") -> Table:
    title = "Questions of (rows) taken for those of (columns)"
    table = Table("", title=title, box=SIMPLE_HEAD, title_justify="left")
    for name in scores.departments:
        table.add_column(name, justify="right")
    for row, (name, counts) in enumerate(zip(scores.departments, scores.confusion, strict=True)):
        cells = [f"[bold]{count}[/]" if row == column else str(count or "") for column, count in enumerate(counts)]
        table.add_row(name, *cells)
    return table
