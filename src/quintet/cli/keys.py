"""`quintet keys`: who may ask which departments, until when, and how much. A key is never an argument."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import HERE, AsJson, Folder, err, out, print_json
from quintet.config import Project, lasting
from quintet.errors import ConfigError

if TYPE_CHECKING:
    from quintet.registry.keys import Key


keys = typer.Typer(help="Make, list and revoke the keys that the server asks for.", no_args_is_help=True)


@keys.callback()
def _group() -> None:
    """Make, list and revoke the keys that the server asks for."""


@keys.command()
def create(
    department: Annotated[
        list[str] | None,
        typer.Option("--department", "-d", help="A department that the key opens, or 'base'; may be repeated."),
    ] = None,
    all_departments: Annotated[
        bool, typer.Option("--all-departments", help="All there are or will be, and the bare base.")
    ] = False,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", "-b", help="1M/day (tokens), '60 requests/minute', ...; may be repeated."),
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="ask, admin; may be repeated.", show_default="ask")] = None,
    expires: Annotated[
        str | None, typer.Option(help="90d, 12h, 30m, 2w, or a date such as 2027-01-31.", show_default="never")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Whose it is, to know it by.", show_default=False)] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed this once, alone on standard output; what is kept is a hash of it.

    [bold]Examples:[/] quintet keys create -d hr -d finance --budget 1M/day --expires 90d ·
    quintet keys create --all-departments --name "the partners" -b "60 requests/minute"
    """
    from quintet.registry.budgets import parse_budget
    from quintet.registry.keys import EVERYTHING, any_keys, create_key

    if department and all_departments:
        raise ConfigError("expected --department or --all-departments, found both")
    opened = Project.load(project)
    first = not any_keys(opened)
    key, secret = create_key(
        opened,
        departments=[EVERYTHING] if all_departments else department or [],
        roles=_roles(role or ["ask"]),
        budgets=[parse_budget(text) for text in budget or []],
        expires_at=None if expires is None else _moment(expires),
        name=name,
    )
    if as_json:
        print_json({"key": secret, **_describe(key)})
        return
    print(secret)
    _tell_made(opened, key, first)


@keys.command("list")
def list_(project: Folder = HERE, as_json: AsJson = False) -> None:
    """List all keys there ever were: what each opens, and what it has used. The keys themselves are not kept.

    [bold]Example:[/] quintet keys list
    """
    from quintet.registry.keys import list_keys

    found = list_keys(Project.load(project))
    if as_json:
        print_json([_describe(key) for key in found])
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("id", "name", "opens", "used", "until"):
        table.add_column(heading, no_wrap=heading == "id")
    for key in found:
        opens = _opens(key) if key.roles == ("ask",) else f"{_opens(key)} ({', '.join(key.roles)})"
        used = "\n".join(f"{one.used:,} of {one.budget}" for one in key.budgets)
        until = _local(key.expires_at) if _status(key) == "valid" else _status(key)
        table.add_row(
            *map(escape, [key.id, key.name or "", opens, used, until]), style="dim" if _status(key) != "valid" else None
        )
    out.print(table if found else "there is no key yet: quintet keys create")


@keys.command()
def revoke(
    key_id: Annotated[list[str], typer.Argument(metavar="ID...", help="As in `quintet keys list`.")],
    reason: Annotated[str | None, typer.Option(help="Why, for the audit trail.", show_default=False)] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Have keys open nothing any more. A running server refuses them from the next request on.

    [bold]Example:[/] quintet keys revoke 4f7k2m9x1c3d --reason "sent by mail"
    """
    from quintet.registry.keys import revoke_key

    opened = Project.load(project)
    revoked = [revoke_key(opened, one, reason=reason) for one in key_id]
    if as_json:
        print_json([_describe(key) for key in revoked])
        return
    for key in revoked:
        out.print(f"{_called(key)} opens nothing since {_local(key.revoked_at)}", markup=False)


@keys.command()
def history(
    key_id: Annotated[str | None, typer.Argument(metavar="ID", show_default="all keys")] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show who made and revoked which key, when and why.

    [bold]Examples:[/] quintet keys history · quintet keys history 4f7k2m9x1c3d
    """
    from quintet.registry.audit import read_key_acts

    acts = read_key_acts(Project.load(project), key_id)
    if as_json:
        print_json(
            [
                {
                    "at": act.at.isoformat(),
                    "who": act.who,
                    "act": act.act,
                    "key_id": act.key_id,
                    "reason": act.reason,
                    **act.details,
                }
                for act in acts
            ]
        )
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("when", "who", "what", "id", "name", "why"):
        table.add_column(heading, no_wrap=heading in ("when", "id"))
    for act in acts:
        cells = (_local(act.at), act.who, act.act, act.key_id, act.details["name"], act.reason)
        table.add_row(*(escape(cell or "") for cell in cells))
    out.print(table if acts else "nothing was done to any key yet")


def _roles(given: list[str]) -> Any:
    from quintet.registry.keys import ROLES

    unknown = set(given) - set(ROLES)
    if unknown:
        raise ConfigError(f"--role: expected {' or '.join(ROLES)}, found {min(unknown)!r}")
    return given


def _moment(text: str) -> datetime:
    """Return when `90d` from now is, or the local midnight with which a date begins."""
    try:
        if (time := lasting(text)) is not None:
            return datetime.now(UTC) + time
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"--expires: expected 90d, 12h, or a date such as 2027-01-31, found {text!r}") from None


def _tell_made(project: Project, key: "Key", first: bool) -> None:
    """Say what was made, beside the key and not among it, so that it can be piped."""
    until = f" until {_local(key.expires_at)}" if key.expires_at else ""
    limits = f", {', '.join(str(one.budget) for one in key.budgets)}" if key.budgets else ""
    said = f"{_called(key)} opens {_opens(key)}{until}{limits}. Keep it now: it is not shown again."
    err.print(said, markup=False, soft_wrap=True)
    if first and project.config.serving.keys == "auto":
        said = "It is the first one: from now on, the server answers nobody without a key."
        err.print(said, style="yellow", soft_wrap=True)


def _called(key: "Key") -> str:
    return f"{key.id} ({key.name})" if key.name else key.id


def _opens(key: "Key") -> str:
    from quintet.registry.keys import EVERYTHING

    return "all departments" if EVERYTHING in key.departments else ", ".join(key.departments) or "no department"


def _status(key: "Key") -> str:
    return key.status(datetime.now(UTC))


def _local(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else ""


def _describe(key: "Key") -> dict[str, Any]:
    moments = {"created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at}
    return {
        "id": key.id,
        "name": key.name,
        "status": _status(key),
        "departments": list(key.departments),
        "roles": list(key.roles),
        "budgets": [{**vars(one.budget), "used": one.used, "remaining": one.remaining} for one in key.budgets],
        **{name: moment.isoformat() if moment else None for name, moment in moments.items()},
    }
