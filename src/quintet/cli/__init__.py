"""The `quintet` command: one subcommand a stage. Heavy libraries are imported only where they are used."""

import asyncio
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape

from quintet import __version__
from quintet.cli.audit import audit
from quintet.cli.bench import bench
from quintet.cli.compare import compare
from quintet.cli.console import (
    HERE,
    AsJson,
    ConsoleReporter,
    Folder,
    complain,
    err,
    leave_cores_to_others,
    out,
    print_json,
    say_everything,
    stoppable,
)
from quintet.cli.data import data
from quintet.cli.evaluate import evaluate, forgetting, results_table, tell_verdicts
from quintet.cli.experts import experts as experts_group
from quintet.cli.export import export
from quintet.cli.keys import keys as keys_group
from quintet.cli.plan import plan as plan_command
from quintet.cli.release import release, release_all, releases, rollback
from quintet.cli.router import find_department, keep_router
from quintet.cli.router import router as router_group
from quintet.cli.train import fail_unless_all, train, train_each
from quintet.config import BASE, CONFIG_NAME, KeyMode, LogFormat, Project
from quintet.errors import ConfigError, QuintetError
from quintet.evaluation.assess import measure_each

if TYPE_CHECKING:
    from socket import socket

    from quintet.engine.interface import SamplingParams

app = typer.Typer(
    name="quintet",
    help="Fine-tune one small model into one expert per department, prove each, and serve them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # some are secrets
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; what a user can mend is printed without a traceback."""
    say_everything()
    try:
        app()
    except QuintetError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)


def _version(show: bool) -> None:
    if show:
        out.print(f"quintet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune one small model into one expert per department, prove each, and serve them all."""
    # A server's steps are short, and to wake a thread for each of their thousand products takes a quarter of them.
    if context.invoked_subcommand != "serve":
        leave_cores_to_others()


def init(folder: Annotated[Path, typer.Argument(help="The folder to make.")]) -> None:
    """Make a project: quintet.yaml and one data file per department of a sample company.

    [bold]Example:[/] quintet init wrenfield
    """
    from quintet.cli.scaffold import create_project

    made = create_project(folder)
    out.print(f"Made {len(made)} files in {folder}/. Start reading at {folder / 'README.md'}.")
    out.print(f"Next: cd {folder} && quintet train --all", style="dim")


def quickstart(
    folder: Annotated[Path, typer.Argument(help="The project folder; made when it is not there.")] = Path("wrenfield"),
    serve_: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve when all is done.")] = True,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", show_default="from quintet.yaml"),
    ] = None,
) -> None:
    """Do it all on the sample company: make the project, train, evaluate, release, serve.

    Run again, it trains only what has changed, and goes on where it was stopped.

    [bold]Example:[/] quintet quickstart wrenfield --no-serve
    """
    from quintet.cli.scaffold import create_project

    if not (folder / CONFIG_NAME).exists():
        create_project(folder)
        out.print(f"Made the sample company Wrenfield Health in {folder}/")
    project = Project.load(folder)
    # Taken now, so that a port that is not free is known before minutes of training.
    door = _open_door(project, port=port) if serve_ else None
    names = project.trained
    with stoppable("What was done by the last checkpoint is kept; to go on, run the same command."):
        found = measure_each(project, train_each(project, names, resume=True), ConsoleReporter())
    out.print(results_table(found))
    tell_verdicts(found)
    release_all(project, found)
    keep_router(project)
    fail_unless_all(names, found)
    if door is not None:
        _serve(project, door)
    else:
        out.print(f"Next: quintet serve {folder}", style="dim")


def serve(
    folder: Annotated[Path, typer.Argument(help="The project folder.", show_default="here")] = HERE,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="from quintet.yaml")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", show_default="from quintet.yaml"),
    ] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Let whoever reaches the server ask everything.")] = False,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="How log lines are written.", show_default="from quintet.yaml")
    ] = None,
) -> None:
    """Serve every department over HTTP, from one copy of the base.

    Once there is a key, every request needs one; beyond this machine, nothing is served before there is one.

    [bold]Example:[/] quintet serve wrenfield --port 8080
    """
    project = Project.load(folder)
    _serve(project, _open_door(project, host, port, no_keys=no_keys), log_format)


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    department: Annotated[
        str | None,
        typer.Option(
            "--department", "-d", help="Who is asked; 'base' is the bare base.", show_default="whom the question is for"
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 is greedy.")] = 0.0,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Ask one question here and now, without a server.

    [bold]Examples:[/] quintet ask "How long does probation last?" · quintet ask "Who wrote Hamlet?" -d base
    """
    from quintet.engine.interface import SamplingParams
    from quintet.registry.releases import released_expert

    opened = Project.load(project)
    name = department or find_department(opened, question)
    if name != BASE:
        section = opened.config.departments.get(name)
        if section is not None and not section.has_expert:
            raise ConfigError(
                f"department {name!r} has no expert: {', '.join(section.answered_by)} answers for it, through a "
                f"server: quintet serve {opened.root}"
            )
        released_expert(opened, name)  # before the base is loaded, which takes a while
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    answer = asyncio.run(_answer(opened, name, question, sampling, streamed=not as_json))
    if as_json:
        print_json(answer)


async def _answer(
    project: Project, name: str, question: str, sampling: "SamplingParams", *, streamed: bool
) -> dict[str, Any]:
    from quintet.engine.build import build_engine
    from quintet.serving.ask import ask

    with err.status("Loading the model"):
        engine = build_engine(project).engine
        answer = await ask(project, engine, name, question, sampling)
    text, reason = "", None
    try:
        async for piece in answer.pieces():
            text, reason = text + piece.text, piece.finish_reason
            if streamed:
                print(piece.text, end="", flush=True)
        if streamed:
            print()
    finally:
        await engine.close()
    return {
        "model": name,
        "expert": answer.answerer.expert,
        "query": question,
        "response": text,
        "tokens_generated": answer.completion_tokens,
        "finish_reason": reason,
    }


class _Door(NamedTuple):
    """Where is listened, and when requests there need a key."""

    host: str
    listener: "socket"
    mode: KeyMode


def _open_door(project: Project, host: str | None = None, port: int | None = None, *, no_keys: bool = False) -> _Door:
    """Take the port; raise ConfigError for one that is not free, or that others reach while there are no keys."""
    from quintet.server import process

    settings = project.config.serving
    address = (host or settings.host, settings.port if port is None else port)
    mode = _key_mode(project, address[0], "off" if no_keys else settings.keys)
    return _Door(address[0], process.listen(*address), mode)


def _serve(project: Project, door: _Door, log_format: LogFormat | None = None) -> None:
    from quintet.engine.build import build_engine
    from quintet.server import process
    from quintet.server.app import create_app
    from quintet.serving.observability.logs import configure_logs

    settings = project.config.serving
    configure_logs(log_format or settings.logs)
    with err.status("Loading the model"):
        engine, served = build_engine(project)
        where = f"torch on {engine.device.device} in {served.precision}, because {served.reason}"
        err.print(f"Engine: {where}.", style="dim", soft_wrap=True, highlight=False)
        application = create_app(project, engine, door.mode)
    port = door.listener.getsockname()[1]
    shown = "127.0.0.1" if door.host in ("0.0.0.0", "::") else door.host  # noqa: S104
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    first = next(iter(project.config.departments))
    out.print(f"Serving {escape(project.config.company)} on {url} (docs: {url}/docs). Ctrl+C stops.", soft_wrap=True)
    key = ' -H "Authorization: Bearer $QUINTET_KEY"' if door.mode == "required" else ""
    out.print(
        f"""  curl {url}/api/{first}{key} -H 'Content-Type: application/json' -d '{{"query": "Hello"}}'""",
        style="dim", soft_wrap=True, markup=False,
    )  # fmt: skip
    if door.mode == "off" and not _is_loopback(door.host):
        err.print(
            f"[yellow]warning:[/] {door.host} is reachable from other machines, and no keys are asked for: "
            "anyone who reaches it may ask every department",
            soft_wrap=True,
        )
    process.run(application, door.listener, settings)


def _key_mode(project: Project, host: str, mode: KeyMode) -> KeyMode:
    """Return when requests need a key: beyond this machine always, unless told otherwise in so many words."""
    from quintet.registry.keys import any_keys

    if mode != "auto":
        return mode
    if any_keys(project):
        return "required"
    if _is_loopback(host):
        return "auto"
    raise ConfigError(
        f"{host} is reachable from other machines, and there are no keys; make one: quintet keys create "
        f"--department {next(iter(project.config.departments))}; or let whoever reaches it ask everything: "
        "quintet serve --no-keys"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# In the order of the journey, which is the order of the help.
_COMMANDS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart,
    "init": init,
    "plan": plan_command,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "forgetting": forgetting,
    "release": release,
    "rollback": rollback,
    "releases": releases,
    "serve": serve,
    "ask": ask,
    "export": export,
    "audit": audit,
}
for name, command in _COMMANDS.items():
    app.command(name)(command)
for name, group in {
    "data": data,
    "experts": experts_group,
    "keys": keys_group,
    "router": router_group,
    "bench": bench,
}.items():
    app.add_typer(group, name=name)
