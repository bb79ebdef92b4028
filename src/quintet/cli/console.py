"""What every command prints with, and the options that many share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Folder = Annotated[Path, typer.Option("--project", "-p", help="The project folder.", show_default="here")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
HERE = Path()


def complain(message: str) -> None:
    """Print an error that the user can mend."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value for machines, on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def progress() -> Iterator["Progress"]:
    """Show progress bars on standard error; a task has the field `note`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=err) as bars:
        yield bars
