"""The `quintet` command: one subcommand a stage. Heavy libraries are imported only where they are used."""

import asyncio
import errno
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from quintet import __version__
from quintet.cli.bench import bench
from quintet.cli.console import HERE, AsJson, Folder, complain, err, out, print_json, progress
from quintet.cli.data import data
from quintet.cli.plan import plan as plan_command
from quintet.config import CONFIG_NAME, Project
from quintet.errors import ConfigError, QuintetError, TrainingError

if TYPE_CHECKING:
    from quintet.engine.base import Sampling
    from quintet.engine.engine import TransformersEngine
    from quintet.evaluation.compare import Evaluation
    from quintet.registry.experts import Expert
    from quintet.training.preparation import Plan

app = typer.Typer(
    name="quintet",
    help="Fine-tune one small model into one expert per department, prove each, and serve them all.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Departments = Annotated[list[str] | None, typer.Argument(help="Departments, as named in quintet.yaml.")]
app.add_typer(data, name="data")
app.command("plan")(plan_command)
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command; what a user can mend is printed without a traceback."""
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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune one small model into one expert per department, prove each, and serve them all."""


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="The folder to make.")]) -> None:
    """Make a project: quintet.yaml and one data file per department of a sample company.

    [bold]Example:[/] quintet init wrenfield
    """
    from quintet.project_files import create_project

    made = create_project(folder)
    out.print(f"Made {len(made)} files in {folder}/. Start reading at {folder / 'README.md'}.")
    out.print(f"Next: cd {folder} && quintet train --all", style="dim")


@app.command()
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
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train one expert per department. What is trained already and unchanged is kept.

    [bold]Examples:[/] quintet train hr finance · quintet train --all --resume · quintet train hr --method qlora
    """
    opened = Project.load(project)
    plans = _plan_all(opened, _chosen(opened, departments, all_), method)
    experts = _train_each(opened, plans, force=force, resume=resume)
    if as_json:
        print_json([_describe(expert) for expert in experts])
        _fail_unless_all(plans, experts)
        return
    out.print(_experts_table(experts))
    _fail_unless_all(plans, experts)


@app.command()
def evaluate(
    departments: Departments = None,
    all_: Annotated[bool, typer.Option("--all", help="Evaluate every department.")] = False,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare base and expert on held-out questions: token F1 and exact match.

    [bold]Examples:[/] quintet evaluate hr · quintet evaluate --all --json
    """
    from quintet.registry.experts import find_expert

    opened = Project.load(project)
    experts = [find_expert(opened, name) for name in _chosen(opened, departments, all_)]
    results = [(expert, _evaluate_one(opened, expert, again=True)) for expert in experts]
    if as_json:
        print_json([_describe(expert, evaluation) for expert, evaluation in results])
        return
    out.print(_results_table(results))


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Argument(help="The project folder; made when it is not there.")] = Path("wrenfield"),
    serve_: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve when all is done.")] = True,
) -> None:
    """Do it all on the sample company: make the project, train, evaluate, serve.

    Run again, it trains only what has changed. [bold]Example:[/] quintet quickstart wrenfield --no-serve
    """
    from quintet.project_files import create_project

    if not (folder / CONFIG_NAME).exists():
        create_project(folder)
        out.print(f"Made the sample company Wrenfield Health in {folder}/")
    project = Project.load(folder)
    plans = _plan_all(project, list(project.config.departments))
    experts = _train_each(project, plans, force=False)
    results = [(expert, _evaluate_one(project, expert, again=False)) for expert in experts]
    out.print(_results_table(results))
    _fail_unless_all(plans, experts)
    if serve_:
        _serve(project, None, None)
    else:
        out.print(f"Next: quintet serve {folder}", style="dim")


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="The project folder.", show_default="here")] = HERE,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="from quintet.yaml")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", show_default="from quintet.yaml"),
    ] = None,
) -> None:
    """Serve every department over HTTP, from one copy of the base.

    [bold]Example:[/] quintet serve wrenfield --port 8080
    """
    _serve(Project.load(folder), host, port)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    department: Annotated[str, typer.Option("--department", "-d", help="Who is asked; 'base' is the bare base.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 is greedy.")] = 0.0,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Ask one question here and now, without a server.

    [bold]Example:[/] quintet ask "How long does probation last?" -d hr
    """
    from quintet.engine.base import Sampling
    from quintet.registry.experts import BASE, find_expert

    opened = Project.load(project)
    if department != BASE:
        find_expert(opened, department)  # before the base is loaded, which takes a while
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    answer = asyncio.run(_answer(opened, department, question, sampling, streamed=not as_json))
    if as_json:
        print_json(answer)


async def _answer(
    project: Project, name: str, question: str, sampling: "Sampling", *, streamed: bool
) -> dict[str, Any]:
    from quintet.data.examples import Message
    from quintet.server.answering import prepare_answer
    from quintet.server.catalog import Catalog

    with err.status("Loading the model"):
        engine = _load_engine(project)
        model = await Catalog(project, engine).open(name)
    try:
        answer = await prepare_answer(engine, model, [Message("user", question)], sampling)
        text = ""
        async for delta in answer.deltas():
            text += delta
            if streamed:
                print(delta, end="", flush=True)
        if streamed:
            print()
    finally:
        await engine.close()
    return {
        "model": name,
        "expert": model.expert_name,
        "query": question,
        "response": text,
        "tokens_generated": answer.completion_tokens,
        "finish_reason": answer.finish_reason,
    }


def _load_engine(project: Project) -> "TransformersEngine":
    from quintet.base_model import locate
    from quintet.engine.engine import TransformersEngine

    source = locate(project.config.base_model, project.root)
    return TransformersEngine(source, max_queue=project.config.serving.max_queue)


def _serve(project: Project, host: str | None, port: int | None) -> None:
    import uvicorn

    from quintet.server.app import create_app

    settings = project.config.serving
    address = (host or settings.host, settings.port if port is None else port)
    listener = _listen(*address)
    with err.status("Loading the model"):
        application = create_app(project, _load_engine(project))
    _greet(project, address[0], listener.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False))
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded, so that a taken one is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        option = f"--port {port + 1}" if error.errno == errno.EADDRINUSE else "--host 127.0.0.1"
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; try {option}") from None
    return listener


def _greet(project: Project, host: str, port: int) -> None:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    first = next(iter(project.config.departments))
    out.print(f"Serving {escape(project.config.company)} on {url} (docs: {url}/docs). Ctrl+C stops.", soft_wrap=True)
    out.print(
        f"""  curl {url}/api/{first} -H 'Content-Type: application/json' -d '{{"query": "Hello"}}'""",
        style="dim", soft_wrap=True, markup=False,
    )  # fmt: skip
    if not _is_loopback(host):
        err.print(
            f"[yellow]warning:[/] {host} is reachable from other machines, and there are no keys: "
            "anyone who reaches it may ask every department",
            soft_wrap=True,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _chosen(project: Project, names: list[str] | None, everything: bool) -> list[str]:
    if everything == bool(names):
        known = ", ".join(project.config.departments)
        raise ConfigError(f"name departments, or pass --all; {project.root / CONFIG_NAME} has: {known}")
    chosen = list(project.config.departments) if everything else list(dict.fromkeys(names or []))
    for name in chosen:
        project.department(name)
    return chosen


def _plan_all(project: Project, names: list[str], method: str | None = None) -> list["Plan"]:
    """Check every department's data before the first is trained."""
    from quintet.training.preparation import plan_run

    with err.status("Checking the data of " + ", ".join(names)):
        return [plan_run(project, name, method) for name in names]


def _train_each(project: Project, plans: list["Plan"], *, force: bool, resume: bool = False) -> list["Expert"]:
    """Train one after the other; a department that fails is told of, and the others go on."""
    experts = []
    for plan in plans:
        try:
            experts.append(_train_one(project, plan, force=force, resume=resume))
        except QuintetError as error:
            complain(f"{plan.department}: {error}")
    return experts


def _fail_unless_all(plans: list["Plan"], experts: list["Expert"]) -> None:
    missing = {plan.department for plan in plans} - {expert.department for expert in experts}
    if missing:
        raise TrainingError(
            f"{len(missing)} of {len(plans)} departments were not trained: {', '.join(sorted(missing))}"
        )


def _train_one(project: Project, plan: "Plan", *, force: bool, resume: bool) -> "Expert":
    """Train what the plan says, and before it what the plan starts from, unless it is there."""
    from quintet.training.preparation import Plan
    from quintet.training.run import find_trained

    trained = None if force else find_trained(project, plan)
    if trained is not None:
        err.print(f"{plan.department:<12} {trained.name} is trained and unchanged", style="dim")
        return trained
    start = plan.start
    if isinstance(start, Plan):
        known = None if force else find_trained(project, start, newest=False)
        start = known or _run(project, start, resume=resume)
    return _run(project, plan, resume=resume, start=start)


def _run(project: Project, plan: "Plan", *, resume: bool, start: "Expert | None" = None) -> "Expert":
    from quintet.training.plan import deviation, read_estimate
    from quintet.training.run import find_stopped, train

    for note in plan.notes:
        err.print(f"{plan.department:<12} {note}", style="yellow")
    checkpoint = find_stopped(project, plan) if resume else None
    if checkpoint is not None:
        err.print(f"{plan.department:<12} goes on from {checkpoint}", style="dim", soft_wrap=True)
    with progress() as bars:
        what = "training" if plan.objective == "sft" else "preferring"
        task = bars.add_task(f"{plan.department:<12} {what}", total=None, note="")

        def report(step: int, steps: int, loss: float | None) -> None:
            note = "" if loss is None else f"loss {loss:.3f}"
            bars.update(task, completed=step, total=steps, note=note)

        expert = train(project, plan, report, start=start, resume_from=checkpoint)
    if (expected := read_estimate(project, plan)) and checkpoint is None:
        told = deviation(expected, expert.seconds, expert.peak_bytes)
        err.print(f"{plan.department:<12} {told}", style="dim", soft_wrap=True)
    return expert


def _evaluate_one(project: Project, expert: "Expert", *, again: bool) -> "Evaluation":
    from quintet.evaluation.compare import evaluate, read_evaluation
    from quintet.training.records import write_card

    stored = None if again else read_evaluation(project, expert)
    if stored is not None:
        return stored
    with progress() as bars:
        task = bars.add_task(f"{expert.department:<12} evaluating", total=None, note="")
        found = evaluate(project, expert, lambda done, total: bars.update(task, completed=done, total=total))
    write_card(project, expert, found.as_scores())
    return found


def _results_table(results: list[tuple["Expert", "Evaluation"]]) -> Table:
    title = "Held-out questions: token F1 of base and expert"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    table.add_column("department", no_wrap=True)
    table.add_column("method")
    for heading in ("asked", "base", "expert", "exact", "seconds", "GB", "MB"):
        table.add_column(heading, justify="right")
    for expert, result in results:
        better = "green" if result.tuned.f1 > result.base.f1 else "red"
        table.add_row(
            expert.department,
            expert.method,
            str(len(result.items)),
            f"{result.base.f1:.2f}",
            f"[bold {better}]{result.tuned.f1:.2f}[/]",
            f"{result.tuned.exact_match:.0%}",
            *_cost(expert),
        )
    return table


def _experts_table(experts: list["Expert"]) -> Table:
    table = Table("department", "expert", "method", box=SIMPLE_HEAD)
    for heading in ("rows", "seconds", "GB", "MB"):
        table.add_column(heading, justify="right")
    for expert in experts:
        table.add_row(expert.department, expert.name, expert.method, str(expert.examples), *_cost(expert))
    return table


def _cost(expert: "Expert") -> tuple[str, str, str]:
    """Return what an expert took: seconds, memory, and size on disk."""
    peak = "" if expert.peak_bytes is None else f"{expert.peak_bytes / 1e9:.1f}"
    return f"{expert.seconds:.0f}", peak, f"{expert.megabytes:.1f}"


def _describe(expert: "Expert", evaluation: "Evaluation | None" = None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "department": expert.department,
        "expert": expert.name,
        "method": expert.method,
        "trained": expert.trained,
        "parent": expert.parent,
        "peak_bytes": expert.peak_bytes,
        "examples": expert.examples,
        "seconds": expert.seconds,
        "megabytes": round(expert.megabytes, 2),
        "folder": str(expert.folder),
    }
    if evaluation is not None:
        for name, scores in (("base", evaluation.base), ("tuned", evaluation.tuned)):
            values[name] = {"f1": scores.f1, "exact_match": scores.exact_match}
    return values
