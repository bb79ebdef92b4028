"""`quintet export`: an expert as a folder for other tools, or a full one as a delta that shares the batch."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quintet.cli.compare import f1_difference
from quintet.cli.console import HERE, AsJson, ConsoleReporter, Folder, out, print_json, progress
from quintet.cli.evaluate import describe, results_table, tell_verdicts
from quintet.config import Project
from quintet.errors import ExportError
from quintet.evaluation.assess import check_can_answer, measure
from quintet.export.formats import Dtype, Format

if TYPE_CHECKING:
    from quintet.export.exporting import Export
    from quintet.registry.experts import Expert


def export(
    expert: Annotated[str, typer.Argument(help="The expert: hr is the department's newest, hr@2 that version.")],
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", help="One plain model, PEFT's adapter, or a file for llama.cpp.", show_default="merged"
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The folder to make.", show_default="exports/<name>-<format> in the project")
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="What weights are rounded to.", show_default="the base's own; float16 for gguf"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
    as_delta: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="RANK", help="No folder, but a new version: the full expert's low-rank delta, evaluated."
        ),
    ] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write an expert for other tools, and prove that it answers as it is served.

    With --as-delta, make a fully fine-tuned expert one that shares the batch of the others, and say what that loses.

    [bold]Examples:[/] quintet export hr · quintet export hr@2 --format gguf · quintet export sales --format adapter ·
    quintet export hr --as-delta 64
    """
    from quintet.export.exporting import export as write
    from quintet.registry.experts import find_expert

    opened = Project.load(project)
    found = find_expert(opened, expert)
    if as_delta is not None:
        _refuse_beside_delta(found.name, {"--format": form, "--to": to, "--dtype": dtype, "--force": force})
        _export_delta(opened, found, as_delta, as_json)
        return
    with progress() as bars:
        task = bars.add_task(f"{found.department:<12} proving", total=None, note="", visible=False)
        done = write(
            opened, found, form or Format.MERGED, to=to, dtype=dtype, force=force,
            progress=lambda done, total: bars.update(task, completed=done, total=total, visible=True),
        )  # fmt: skip
    if as_json:
        print_json(describe_export(done))
        return
    what = f"{done.form}{f', {done.dtype}' if done.dtype else ''}"
    out.print(f"Wrote {done.expert} ({what}, {done.megabytes:.1f} MB) to {escape(str(done.folder))}", soft_wrap=True)
    if done.proof is not None:
        out.print(f"Proven: {done.proof}", style="dim", soft_wrap=True)


def _refuse_beside_delta(name: str, options: Mapping[str, object]) -> None:
    """Raise ExportError for an option that says how a folder for other tools is written."""
    given = [option for option, value in options.items() if value]
    if given:
        raise ExportError(
            f"--as-delta makes a version of the department, and {given[0]} says how a folder for other tools is "
            f"written; leave it out, and export the version that was made afterwards"
        )


def _export_delta(project: Project, full: "Expert", rank: int, as_json: bool) -> None:
    from quintet.export.delta import make_delta

    check_can_answer(project, full)
    with progress() as bars:
        task = bars.add_task(f"{full.department:<12} decomposing", total=None, note="", visible=False)
        delta, fit = make_delta(
            project, full, rank, lambda done, total: bars.update(task, completed=done, total=total, visible=True)
        )
    before, after = (measure(project, one, ConsoleReporter(), again=False) for one in (full, delta))
    difference = f1_difference(after, before)
    expert = after.expert
    if after.passed:
        next_ = f"quintet release {expert.department} {expert.version}"
    else:
        next_ = f"quintet export {full.name} --as-delta {2 * rank}"
    if as_json:
        values = {"fit": asdict(fit), "full": describe(before), "difference": difference, "next": next_}
        print_json(describe(after) | values)
        return
    out.print(f"{delta.name} is {full.name} as a delta of rank {rank}", markup=False)
    out.print(
        f"Kept: {fit.kept:.1%} of what changed in {fit.layers} linear layers, by squared norm; "
        f"the least of {fit.worst_layer}: {fit.worst:.1%}", soft_wrap=True, markup=False,
    )  # fmt: skip
    if fit.not_held:
        shares = ", ".join(f"{kind} ({share:.1%})" for kind, share in fit.not_held.items())
        out.print(f"Not held, of all that changed: {shares}", soft_wrap=True, markup=False)
    if difference is not None:
        out.print("F1 against {0}: {mean:+.2f}, 95% interval {low:+.2f} to {high:+.2f}".format(full.name, **difference))
    out.print(results_table([before, after]))
    tell_verdicts([after])
    out.print(f"Next: {next_}", style="dim", soft_wrap=True, markup=False)


def describe_export(done: "Export") -> dict[str, Any]:
    """Return an export as `--json` prints it."""
    return {
        "expert": done.expert,
        "digest": done.digest,
        "format": done.form,
        "dtype": done.dtype,
        "folder": str(done.folder),
        "megabytes": round(done.megabytes, 2),
        "proof": None if done.proof is None else asdict(done.proof),
    }
