"""`quintet experts`: which versions there are, what is known of each, and whether their files are whole."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import HERE, AsJson, Folder, err, out, print_json
from quintet.config import Project

if TYPE_CHECKING:
    from quintet.registry.experts import Expert
    from quintet.registry.verification import Damage

Name = Annotated[str, typer.Argument(help="A version, such as hr@2.", show_default=False)]
Department = Annotated[str | None, typer.Argument(help="A department.", show_default="all of them")]
# What differs between any two experts, and says nothing.
IDENTITY = frozenset({"expert", "version", "created_at", "artifact", "contents", "folder", "share", "acts"})

experts = typer.Typer(help="List, compare, verify and delete experts.", no_args_is_help=True)


@experts.callback()
def _group() -> None:
    """List, compare, verify and delete experts."""


@experts.command("list")
def list_(department: Department = None, project: Folder = HERE, as_json: AsJson = False) -> None:
    """List the experts of a department, or of all of them, and which are released.

    [bold]Examples:[/] quintet experts list · quintet experts list hr --json
    """
    from quintet.registry.experts import list_experts

    opened = Project.load(project)
    listed = [(expert, _share(opened, expert)) for name in _chosen(opened, department)
              for expert in list_experts(opened, name)]  # fmt: skip
    if as_json:
        print_json([_summary(expert, share) for expert, share in listed])
    else:
        table = Table("expert", "method", "made", box=SIMPLE_HEAD)
        for heading in ("rows", "seconds", "released"):
            table.add_column(heading, justify="right")
        for expert, share in listed:
            made = f"{expert.created_at.astimezone():%Y-%m-%d %H:%M}" if expert.created_at else ""
            released = f"[green]{share}%[/]" if share else ""
            table.add_row(expert.name, expert.method, made, str(expert.examples), f"{expert.seconds:.0f}", released)
        out.print(table)


@experts.command()
def show(name: Name, project: Folder = HERE, as_json: AsJson = False) -> None:
    """Show all that is known of an expert: what made it, its digests, its settings, what was done to it.

    [bold]Example:[/] quintet experts show hr@2
    """
    known = _known(Project.load(project), name)
    if as_json:
        print_json(known)
        return
    table = Table("what", "value", title=name, box=SIMPLE_HEAD, title_justify="left")
    for key, value in _flat(known):
        table.add_row(key, escape(_text(value)))
    out.print(table)


@experts.command()
def diff(one: Name, other: Name, project: Folder = HERE, as_json: AsJson = False) -> None:
    """Show what differs between two experts: settings, data, base, template, metrics.

    [bold]Example:[/] quintet experts diff hr@1 hr@2
    """
    opened = Project.load(project)
    left, right = (dict(_flat(_known(opened, name))) for name in (one, other))
    differing = {
        key: [left.get(key), right.get(key)]
        for key in {**left, **right}
        if left.get(key) != right.get(key) and key.partition(".")[0] not in IDENTITY
    }
    if as_json:
        print_json(differing)
        return
    table = Table("what", one, other, box=SIMPLE_HEAD)
    for key, (before, after) in differing.items():
        table.add_row(key, escape(_text(before)), escape(_text(after)))
    out.print(table if differing else f"{one} and {other} are the same in all but their name")


@experts.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit.", show_default=False)] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Delete an expert's files; its number is never given out again. Refused while it is released.

    [bold]Example:[/] quintet experts delete hr@1 --reason "trained on the wrong file"
    """
    from quintet.registry.deletion import delete_expert

    opened = Project.load(project)
    if not yes:
        typer.confirm(f"Delete {name}, its weights and its run?", abort=True, err=True)
    run = delete_expert(opened, name, reason=reason)
    if as_json:
        print_json({"deleted": name})
    else:
        out.print(f"Deleted {name}; {run} holds no more than a note of it", soft_wrap=True, markup=False)


@experts.command()
def verify(department: Department = None, project: Folder = HERE, as_json: AsJson = False) -> None:
    """Hold every expert's files against their digests; say what is damaged and what mends it. Exit code 1 if any is.

    [bold]Examples:[/] quintet experts verify · quintet experts verify hr --json
    """
    from quintet.registry.verification import verify as find_damages

    opened = Project.load(project)
    with err.status("Reading the files of the experts"):
        damages = [damage for name in _chosen(opened, department) for damage in find_damages(opened, name)]
    if as_json:
        print_json([vars(damage) for damage in damages])
    else:
        out.print(_damages(damages) if damages else "Every file is as it was registered")
    if damages:
        raise typer.Exit(1)


def _chosen(project: Project, department: str | None) -> list[str]:
    if department is None:
        return list(project.config.departments)
    project.department(department)
    return [department]


def _share(project: Project, expert: "Expert") -> int:
    """Return how many of a hundred conversations the expert answers now."""
    from quintet.registry.releases import live

    release = live(project, expert.department)
    return dict(release.split).get(expert.version, 0) if release else 0


def _known(project: Project, name: str) -> dict[str, Any]:
    from quintet.registry.audit import read_acts
    from quintet.registry.experts import describe_expert, look_up

    expert = look_up(project, name)
    acts = read_acts(project, expert.department, expert.version)
    return {
        **describe_expert(project, name),
        "folder": str(expert.folder),
        "share": _share(project, expert),
        "acts": [{"at": act.at.isoformat(), "who": act.who, "act": act.act, "reason": act.reason} for act in acts],
    }


def _summary(expert: "Expert", share: int) -> dict[str, Any]:
    return {
        "expert": expert.name,
        "department": expert.department,
        "version": expert.version,
        "method": expert.method,
        "parent": expert.parent,
        "base_model": expert.base_model,
        "examples": expert.examples,
        "seconds": expert.seconds,
        "digest": expert.digest,
        "created_at": expert.created_at.isoformat() if expert.created_at else None,
        "share": share,
        "folder": str(expert.folder),
    }


def _damages(damages: "list[Damage]") -> Table:
    table = Table("expert", "what", "how to mend it", box=SIMPLE_HEAD)
    for damage in damages:
        table.add_row(damage.expert, escape(f"{damage.path} {damage.found}"), escape(damage.fix))
    return table


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values under keys such as `settings.training.lora.rank`."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: object) -> str:
    """Return a value for a cell: digests shortened, lists a line each."""
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, dict):
        return "  ".join(str(part) for part in value.values() if part is not None)
    text = "" if value is None else str(value)
    is_digest = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return text[:12] if is_digest else text
