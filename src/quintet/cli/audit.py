"""`quintet audit`: who did what to experts, releases, keys and the running server, and when."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet.cli.console import HERE, AsJson, Folder, out, print_json
from quintet.config import Project, lasting
from quintet.errors import ConfigError


def audit(
    department: Annotated[str | None, typer.Option("--department", "-d", help="Only what was done to it.")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only what was done to this key.")] = None,
    act: Annotated[str | None, typer.Option(help="Only acts of this kind, such as 'release'.")] = None,
    who: Annotated[str | None, typer.Option(help="Only what they did, as in ada@lab3 or 'key 4f7k2m9x1c3d'.")] = None,
    since: Annotated[str | None, typer.Option(help="90d, 12h, 30m, 2w ago, or a date such as 2027-01-31.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many of the newest.")] = 100,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show who did what, and when: experts, releases, keys, reloads. The trail only grows.

    [bold]Examples:[/] quintet audit · quintet audit -d hr --since 30d · quintet audit --act "revoke key" --json
    """
    from quintet.registry.audit import search_acts

    acts = search_acts(
        Project.load(project),
        act=act,
        department=department,
        key_id=key,
        who=who,
        since=None if since is None else _moment(since),
        newest=limit,
    )
    if as_json:
        print_json([{**vars(one), "at": one.at.isoformat()} for one in acts])
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("when", "who", "what", "to", "why", "details"):
        table.add_column(heading, no_wrap=heading in ("when", "to"))
    for one in acts:
        version = "" if one.version is None else f"@{one.version}"
        to = f"{one.department}{version}" if one.department else one.key_id or ""
        details = ", ".join(
            f"{name}: {_shown(value)}" for name, value in one.details.items() if value not in (None, [], "")
        )
        table.add_row(
            *map(escape, [f"{one.at.astimezone():%Y-%m-%d %H:%M:%S}", one.who, one.act, to, one.reason or "", details])
        )
    out.print(table if acts else "nothing of that kind was done yet")


def _moment(text: str) -> datetime:
    try:
        if (time := lasting(text)) is not None:
            return datetime.now(UTC) - time
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"--since: expected 90d, 12h, or a date such as 2027-01-31, found {text!r}") from None


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
