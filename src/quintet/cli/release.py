"""`quintet release`, `rollback` and `releases`: what answers for a department, once the gate lets it; and what did."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import HERE, AsJson, ConsoleReporter, Folder, attempt_each, choose, complain, out, print_json
from quintet.cli.evaluate import describe
from quintet.config import Project
from quintet.errors import ConfigError, GateError, QuintetError
from quintet.evaluation.assess import Worth, check_can_answer, measure

if TYPE_CHECKING:
    from quintet.registry.releases import Release


def release(
    department: Annotated[str | None, typer.Argument(help="The department.", show_default=False)] = None,
    version: Annotated[int | None, typer.Argument(help="Its version.", show_default="the newest of its method")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Release each department's newest of its method.")] = False,
    share: Annotated[
        int, typer.Option(min=1, max=100, help="Percent of the conversations; what is live keeps the rest.")
    ] = 100,
    force: Annotated[bool, typer.Option("--force", help="Release what the gate blocks; wants a --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit trail.", show_default=False)] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Have an expert answer for its department, once the gate has let it through. A running server follows at once.

    It is measured first, unless it was, beside what is live now.

    [bold]Examples:[/] quintet release hr 3 · quintet release hr 4 --share 10 · quintet release --all ·
    quintet release hr 3 --force --reason "the legal deadline is today"
    """
    if force and not (reason or "").strip():
        raise ConfigError('--force wants a reason for the audit trail: --force --reason "..."')
    opened = Project.load(project)
    names = choose(opened, [department] if department else None, all_)
    found = attempt_each(names, lambda name: _measured(opened, name, version, force))
    failures = release_all(opened, found, reason=reason, share=share, force=force, aloud=not as_json)
    if as_json:
        blocked = dict(failures)
        print_json([describe(one) | {"released": one.expert.name not in blocked} for one in found])
    if failures:
        raise typer.Exit(failures[0][1].exit_code)
    if len(found) < len(names):
        raise typer.Exit(1)


def release_all(
    project: Project,
    found: Sequence[Worth],
    *,
    reason: str | None = None,
    share: int = 100,
    force: bool = False,
    aloud: bool = True,
) -> list[tuple[str, QuintetError]]:
    """Release the measured experts that the gate lets through, or all by force; tell of the rest, and return why."""
    failures: list[tuple[str, QuintetError]] = []
    for one in found:
        try:
            from quintet.registry.releases import release as make_live

            expert = one.expert
            if not one.passed and not force:
                blocked = [f"{verdict.rule}: {verdict.said}" for verdict in one.verdicts if not verdict.passed]
                raise GateError(expert.name, blocked or ["it could not be measured"])
            # What the gate would have let through anyway was not forced.
            forced = not one.passed
            made = make_live(project, expert.department, expert.version, reason=reason, forced=forced, share=share)
        except QuintetError as failure:
            complain(str(failure))
            failures.append((one.expert.name, failure))
        else:
            if aloud:
                out.print(f"{made} answers now", markup=False)
    return failures


def _measured(project: Project, department: str, version: int | None, force: bool) -> Worth:
    from quintet.registry.experts import find_expert

    name = _newest(project, department) if version is None else f"{department}@{version}"
    expert = find_expert(project, name)
    # Force overrules the gate. It cannot make an expert answer that is damaged or of another base.
    check_can_answer(project, expert)
    try:
        return measure(project, expert, ConsoleReporter(), again=False)
    except QuintetError as error:
        if not force:
            raise
        complain(f"{name} is not measured: {error}")
        return Worth(expert)


def _newest(project: Project, department: str) -> str:
    """Return the newest expert of the method that the department is to be trained by, or else the newest of all."""
    from quintet.registry.experts import list_experts

    method = project.training(department).method
    experts = [expert for expert in list_experts(project, department) if expert.method == method]
    return experts[-1].name if experts else department


Department = Annotated[str, typer.Argument(help="A department.", show_default=False)]


def rollback(
    department: Department,
    reason: Annotated[str | None, typer.Option(help="Why, for the history.", show_default=False)] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Take the last release back: what answered before it answers again. A running server follows at once.

    [bold]Example:[/] quintet rollback hr --reason "answers of last year's handbook"
    """
    from quintet.registry.releases import rollback as restore

    release = restore(Project.load(project), department, reason=reason)
    if as_json:
        print_json(_describe(release))
    else:
        out.print(f"{release} answers now")


def releases(department: Department, project: Folder = HERE, as_json: AsJson = False) -> None:
    """Show what was released when, by whom and why, the live release first.

    [bold]Example:[/] quintet releases hr
    """
    from quintet.registry.releases import describe_split, history

    opened = Project.load(project)
    opened.department(department)
    found = history(opened, department)
    if as_json:
        print_json([_describe(release) for release in found])
        return
    table = Table("", "released", "since", "by", "why", "forced", box=SIMPLE_HEAD)
    for release in found:
        table.add_row(
            "[green]live[/]" if release is found[0] else "",
            describe_split(release.split),
            f"{release.since.astimezone():%Y-%m-%d %H:%M:%S}",
            escape(release.by),
            escape(release.reason or ""),
            "[red]forced[/]" if release.forced else "",
        )
    out.print(table if found else f"{department} has no release yet")


def _describe(release: "Release") -> dict[str, Any]:
    return {
        "department": release.department,
        "split": [{"version": f"{release.department}@{version}", "share": share} for version, share in release.split],
        "since": release.since.isoformat(),
        "by": release.by,
        "reason": release.reason,
        "forced": release.forced,
    }
