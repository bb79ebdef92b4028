"""What every command prints with, and the options that many share."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from quintet.config import CONFIG_NAME, Project
from quintet.errors import ConfigError, QuintetError

if TYPE_CHECKING:
    from rich.progress import Progress

R = TypeVar("R")

# Of the processes that train one run together, the first speaks.
_silent = int(os.environ.get("RANK", "0")) > 0
out = Console(highlight=False, quiet=_silent)
err = Console(stderr=True, highlight=False, quiet=_silent)

Departments = Annotated[list[str] | None, typer.Argument(help="Departments, as named in quintet.yaml.")]
Folder = Annotated[Path, typer.Option("--project", "-p", help="The project folder.", show_default="here")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
HERE = Path()
STOPPED = 130
"""The exit code of what Ctrl+C ended, as shells have it."""


def say_everything() -> None:
    """Let no character stop a command: Windows gives pipes and files an old encoding, which has few of them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if os.name == "nt" and not stream.isatty() and "PYTHONIOENCODING" not in os.environ:
                stream.reconfigure(encoding="utf-8")
            stream.reconfigure(errors="backslashreplace")


def leave_cores_to_others() -> None:
    """Let threads that wait for each other sleep sooner, unless the user says how; before the libraries are loaded.

    GNU's OpenMP spins some milliseconds for the slowest thread; where another program has that one's core, all of them
    are spent. A thirtieth of it is as fast alone, and twice as fast beside others (docs/log.md).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def choose(project: Project, names: list[str] | None, everything: bool) -> list[str]:
    """Return the departments that were named, each once, or all; raise ConfigError for none, or an unknown one."""
    if everything == bool(names):
        known = ", ".join(project.config.departments)
        raise ConfigError(f"name departments, or pass --all; {project.root / CONFIG_NAME} has: {known}")
    chosen = project.trained if everything else list(dict.fromkeys(names or []))
    for name in chosen:
        project.department(name)
    return chosen


def attempt_each(names: Sequence[str], work: Callable[[str], R]) -> list[R]:
    """Do the work for each name; one that fails is told of, and the others go on; one that is alone raises."""
    done = []
    for name in names:
        try:
            done.append(work(name))
        except QuintetError as error:
            if len(names) == 1:
                raise
            complain(f"{name}: {error}")
    return done


def complain(message: str) -> None:
    """Print an error that the user can mend."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value for machines, on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """At Ctrl+C, end with the exit code of a stopped command, and say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"Stopped. {escape(advice)}", soft_wrap=True)
        raise typer.Exit(STOPPED) from None


@contextmanager
def progress() -> Iterator["Progress"]:
    """Show progress bars on standard error; a task has the field `note`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from quintet.cli.time_column import TimeColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeColumn(),
               TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=err) as bars:
        yield bars


class ConsoleReporter:
    """Shows an assessment's progress and what it tells of on standard error."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
        """Yield what begins a bar."""
        with progress() as bars:

            def begin(name: str) -> Callable[[int, int], None]:
                task = bars.add_task(name, total=None, note="")
                return lambda done, total: bars.update(task, completed=done, total=total)

            yield begin

    def warn(self, message: str) -> None:
        """Print a warning."""
        err.print(message, style="yellow", markup=False)

    def complain(self, message: str) -> None:
        """Print an error."""
        complain(message)
