"""`quintet export`: an expert as a folder for other tools."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quintet.cli.console import HERE, AsJson, Folder, out, print_json, progress
from quintet.config import Project
from quintet.export.formats import Dtype, Format

if TYPE_CHECKING:
    from quintet.export.exporting import Export


def export(
    expert: Annotated[str, typer.Argument(help="The expert: hr is the department's newest, hr@2 that version.")],
    form: Annotated[
        Format,
        typer.Option("--format", help="One plain model, PEFT's adapter, or a file for llama.cpp."),
    ] = Format.MERGED,
    to: Annotated[
        Path | None, typer.Option(help="The folder to make.", show_default="exports/<name>-<format> in the project")
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="What weights are rounded to.", show_default="the base's own; float16 for gguf"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write an expert for other tools, and prove that it answers as it is served.

    [bold]Examples:[/] quintet export hr · quintet export hr@2 --format gguf · quintet export sales --format adapter
    """
    from quintet.export.exporting import export as write
    from quintet.registry.experts import find_expert

    opened = Project.load(project)
    found = find_expert(opened, expert)
    with progress() as bars:
        task = bars.add_task(f"{found.department:<12} proving", total=None, note="", visible=False)
        done = write(
            opened, found, form, to=to, dtype=dtype, force=force,
            progress=lambda done, total: bars.update(task, completed=done, total=total, visible=True),
        )  # fmt: skip
    if as_json:
        print_json(describe_export(done))
        return
    what = f"{done.form}{f', {done.dtype}' if done.dtype else ''}"
    out.print(f"Wrote {done.expert} ({what}, {done.megabytes:.1f} MB) to {escape(str(done.folder))}", soft_wrap=True)
    if done.proof is not None:
        out.print(f"Proven: {done.proof}", style="dim", soft_wrap=True)


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
