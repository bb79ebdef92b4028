"""`quintet train`: experts from plans, with bars that tell how far each is; one that fails stops no other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from quintet.cli.console import (
    HERE,
    AsJson,
    ConsoleReporter,
    Departments,
    Folder,
    choose,
    complain,
    err,
    out,
    print_json,
    progress,
    stoppable,
)
from quintet.cli.evaluate import describe, results_table, tell_verdicts
from quintet.cli.router import keep_router
from quintet.config import Project
from quintet.errors import ConfigError, QuintetError
from quintet.evaluation.assess import Worth, measure_each
from quintet.training.ranks import is_main, is_shared

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from quintet.registry.experts import Expert
    from quintet.training.department import Listener, Note, TrainingStep
    from quintet.training.preparation import Plan


def train(
    departments: Departments = None,
    all_: Annotated[bool, typer.Option("--all", help="Train every department.")] = False,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="full, lora, qlora, prefix, dpo, or any PEFT type.", show_default="from quintet.yaml"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run was stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Train even what is trained and unchanged.")] = False,
    parallel: Annotated[
        int, typer.Option("--parallel", min=1, help="Departments at once, as far as the memory allows.")
    ] = 1,
    evaluation: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Compare each expert with its base afterwards.")
    ] = True,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train one expert per department. What is trained already and unchanged is kept.

    A department that fails stops no other; then the exit code is 1.

    [bold]Examples:[/] quintet train hr finance · quintet train --all --resume · quintet train hr --method qlora
    """
    if parallel > 1 and is_shared():
        raise ConfigError("--parallel: several processes train one run already; start it without `accelerate launch`")
    opened = Project.load(project)
    chosen = choose(opened, departments, all_)
    with stoppable("What was done by the last checkpoint is kept; to go on, run the same command with --resume."):
        experts = train_each(opened, chosen, method, force=force, resume=resume, parallel=parallel)
        if not is_main():
            return
        found = (
            measure_each(opened, experts, ConsoleReporter()) if evaluation else [Worth(expert) for expert in experts]
        )
    keep_router(opened)
    if as_json:
        print_json([describe(one) for one in found])
    elif found:
        out.print(results_table(found))
        tell_verdicts(found)
    fail_unless_all(chosen, found, measured=evaluation)


def train_each(
    project: Project,
    names: Sequence[str],
    method: str | None = None,
    *,
    force: bool = False,
    resume: bool = False,
    parallel: int = 1,
) -> list["Expert"]:
    """Train the departments and return their experts; one that fails is told of, and the others go on.

    Raises the error of a department that is alone.
    """
    alone = len(names) == 1
    experts = []
    plans = [plan for name in names for plan in _planned(project, name, method, alone=alone)]
    with _listening() as listener:
        for plan, expert in _trained(project, plans, listener, force=force, resume=resume, parallel=parallel):
            if isinstance(expert, QuintetError):
                if alone:
                    raise expert
                complain(f"{plan.department}: {expert}")
            else:
                experts.append(expert)
    return experts


def fail_unless_all(names: Sequence[str], found: Sequence[Worth], *, measured: bool = True) -> None:
    """End with exit code 1 when a department has no expert, or one that was to be measured and could not be."""
    done = {one.expert.department for one in found if one.evaluation or not measured}
    missing = [name for name in names if name not in done]
    if missing:
        what = "trained and measured" if measured else "trained"
        complain(f"{len(missing)} of {len(names)} departments were not {what}: {', '.join(missing)}")
        raise typer.Exit(1)


def _planned(project: Project, name: str, method: str | None, *, alone: bool) -> list["Plan"]:
    """Return the department's plan, or none when its data or settings are wrong, which is told at once."""
    with err.status(f"Checking the data of {name}"):
        from quintet.training.preparation import plan_run  # which takes seconds, the first time

        try:
            return [plan_run(project, name, method)]
        except QuintetError as error:
            if alone:
                raise
            complain(f"{name}: {error}")
            return []


def _trained(
    project: Project, plans: Sequence["Plan"], listener: "Listener", *, force: bool, resume: bool, parallel: int
) -> Iterator[tuple["Plan", "Expert | QuintetError"]]:
    """Yield each plan with what became of it."""
    from quintet.training.department import train_department
    from quintet.training.processes import side_by_side, train_side_by_side

    count = side_by_side(project, plans, parallel) if parallel > 1 else 1
    if count < min(parallel, len(plans)):
        err.print(f"{count} at once, not {parallel}: the memory holds no more", style="yellow")
    if count > 1:
        futures = train_side_by_side(project, plans, listener, count, force=force, resume=resume)
        for plan, future in zip(plans, futures, strict=True):
            failure = future.exception()
            if failure is not None and not isinstance(failure, QuintetError):
                raise failure
            yield plan, failure or future.result()
        return
    for plan in plans:
        try:
            yield plan, train_department(project, plan, listener, force=force, resume=resume)
        except QuintetError as error:
            yield plan, error


class _Bars:
    """A bar for each run that tells of its steps, and a line for each note."""

    def __init__(self, bars: "Progress") -> None:
        self._bars = bars
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __call__(self, told: "Note | TrainingStep") -> None:
        from quintet.training.department import Note

        if isinstance(told, Note):
            style = "yellow" if told.is_warning else "dim"
            err.print(f"{told.department:<12} {told.text}", style=style, soft_wrap=True, markup=False)
            return
        note = "" if told.loss is None else f"loss {told.loss:.3f}"
        key = (told.department, told.objective)
        if key not in self._tasks:
            what = "training" if told.objective == "sft" else "preferring"
            self._tasks[key] = self._bars.add_task(f"{told.department:<12} {what}", total=None, note="")
        task = self._tasks[key]
        if told.steps is not None and self._bars.tasks[task].total is None:
            self._bars.reset(task)  # the time to make it ready says nothing of the steps'
        self._bars.update(task, completed=told.step, total=told.steps, note=note)


@contextmanager
def _listening() -> Iterator["Listener"]:
    with progress() as bars:
        yield _Bars(bars)
