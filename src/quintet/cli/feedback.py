"""`quintet data from-feedback`: what people thought of answers → what to train on, once somebody has read it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from quintet.cli.console import HERE, AsJson, Folder, out, print_json
from quintet.config import Project
from quintet.errors import DataError


def from_feedback(
    department: Annotated[str, typer.Argument(help="A department, as named in quintet.yaml.")],
    target: Annotated[Path, typer.Option("--out", help="The file to write, such as hr.review.jsonl.")],
    reviewed: Annotated[
        Path | None, typer.Option("--reviewed", help="The file that this wrote before, once it is reviewed.")
    ] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make training rows and preferences of feedback: first a file to review, then, of that, what was accepted.

    [bold]Examples:[/] quintet data from-feedback hr --out hr.review.jsonl ·
    quintet data from-feedback hr --reviewed hr.review.jsonl --out departments/hr.feedback.jsonl
    """
    opened = Project.load(project)
    opened.department(department)
    told = _write_review(opened, department, target) if reviewed is None else _write_accepted(reviewed, target)
    if as_json:
        print_json(told)
    elif reviewed is None:
        out.print(
            f"Wrote {told['rows']:,} answers with feedback to {escape(str(target))}. Read them, mend their "
            "answers, and set 'accepted' to true where they are to be trained on.",
            soft_wrap=True,
        )
    else:
        pairs = f", and {told['pairs']} preferences to {told['preferences']}" if told["pairs"] else ""
        out.print(
            escape(f"Wrote {told['rows']} rows to {told['out']}{pairs}; {told['left_out']} were not accepted."),
            soft_wrap=True,
        )


def _write_review(project: Project, department: str, target: Path) -> dict[str, object]:
    from datetime import UTC, datetime

    from quintet.data.reviewing import explain_nothing, review_row
    from quintet.data.writing import refuse_to_overwrite, write_rows
    from quintet.registry.feedback import count_feedback, forget_old, rated

    refuse_to_overwrite(target)
    forget_old(project, datetime.now(UTC))
    found = rated(project, department)
    if not found:
        keeps = project.department(department).keeps_for is not None
        raise DataError([explain_nothing(department, keeps, count_feedback(project, department))])
    write_rows(target, map(review_row, found))
    return {"out": str(target), "rows": len(found)}


def _write_accepted(reviewed: Path, target: Path) -> dict[str, object]:
    from quintet.data.reviewing import read_review
    from quintet.data.writing import refuse_to_overwrite, write_rows

    preferences = target.with_suffix(".preferences.jsonl")
    refuse_to_overwrite(target, preferences)
    accepted = read_review(reviewed)
    write_rows(target, accepted.rows)
    if accepted.pairs:
        write_rows(preferences, accepted.pairs)
    return {
        "out": str(target),
        "rows": len(accepted.rows),
        "preferences": str(preferences) if accepted.pairs else None,
        "pairs": len(accepted.pairs),
        "left_out": accepted.left_out,
    }
