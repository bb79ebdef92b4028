"""`quintet data from-documents`: a company's documents → drafts of questions and answers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from quintet.cli.console import AsJson, out, print_json, progress, stoppable
from quintet.errors import ConfigError

if TYPE_CHECKING:
    from quintet.data.documents.drafting import Outcome
    from quintet.data.documents.passages import Passage
    from quintet.data.documents.reading import Library
    from quintet.data.documents.teacher import TeacherSettings

KEY_NAME = "QUINTET_TEACHER_KEY"


def from_documents(
    folder: Annotated[Path, typer.Argument(help="The folder of documents: .md, .txt, .html, .docx, .pdf.")],
    target: Annotated[Path, typer.Option("--out", help="The data file to write, such as departments/hr.jsonl.")],
    teacher_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint, such as https://host/v1. The passages are sent there."),
    ] = None,
    teacher_model: Annotated[str | None, typer.Option(help="The teacher's model, by its name there.")] = None,
    teacher_key_env: Annotated[
        str | None, typer.Option(help="The environment variable that holds the key.", show_default=KEY_NAME)
    ] = None,
    questions: Annotated[int, typer.Option(min=1, max=20, help="Most questions for a passage.")] = 3,
    max_words: Annotated[int, typer.Option(min=20, help="Longest passage, in words.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Cut documents into passages, and let a teacher draft questions and answers from each.

    Nothing leaves this machine without --teacher-url: without it, a file to fill in by hand is written. What is
    stopped goes on when the same command is run again.

    [bold]Example:[/] quintet data from-documents handbooks --out hr.jsonl
    --teacher-url http://127.0.0.1:8080/v1 --teacher-model qwen3
    """
    from quintet.data.writing import refuse_to_overwrite

    settings = _teacher(teacher_url, teacher_model, teacher_key_env)
    refuse_to_overwrite(target)
    library, passages = _read(folder, max_words)
    outcome = None if settings is None else _draft(passages, target, settings, questions)
    if outcome is None:
        from quintet.data.documents.drafting import write_fill_in

        write_fill_in(passages, target)
    if as_json:
        print_json(_describe(library, passages, outcome, target))
        return
    _tell_reading(library, passages)
    if outcome is None:
        _tell_fill_in(target)
    else:
        _tell_outcome(outcome, target)


def _teacher(url: str | None, model: str | None, key_name: str | None) -> "TeacherSettings | None":
    """Return whom to ask, or None; raise ConfigError when only half of it is said."""
    if url is None:
        if model is not None or key_name is not None:
            raise ConfigError("a teacher is named without its address; add --teacher-url, such as https://host/v1")
        return None
    from quintet.data.documents.teacher import TeacherSettings

    if model is None:
        raise ConfigError(f"--teacher-url {url}: add --teacher-model, the model's name there")
    key = os.environ.get(key_name or KEY_NAME, "").strip()
    if key_name is not None and not key:
        raise ConfigError(f"--teacher-key-env names ${key_name}, which is empty; set it to the teacher's key")
    return TeacherSettings(url, model, key or None, key_name or KEY_NAME)


def _read(folder: Path, max_words: int) -> "tuple[Library, list[Passage]]":
    from quintet.data.documents.drafting import cut_library
    from quintet.data.documents.reading import read_folder

    with progress() as bars:
        task = bars.add_task("reading", total=None, note="")
        library = read_folder(folder, lambda done, total: bars.update(task, completed=done, total=total))
    return library, cut_library(library, max_words)


def _draft(passages: "list[Passage]", target: Path, settings: "TeacherSettings", questions: int) -> "Outcome":
    from quintet.data.documents.drafting import draft, state_file

    kept = f"What the teacher wrote is in {state_file(target)}; run the same command again to go on."
    with stoppable(kept), progress() as bars:
        task = bars.add_task("drafting", total=len(passages), note="passages")
        return draft(passages, target, settings, questions, lambda done, _: bars.update(task, completed=done))


def _tell_reading(library: "Library", passages: "list[Passage]") -> None:
    out.print(f"Read {len(library.documents):,} documents: {len(passages):,} passages", soft_wrap=True)
    for document in library.documents:
        for note in document.notes:
            out.print(f" [yellow]{escape(document.name)}: {escape(note)}[/]", soft_wrap=True)
    for name, reason in library.left_out:
        out.print(f" [yellow]left out {escape(name)}: {escape(reason)}[/]", soft_wrap=True)


def _tell_fill_in(target: Path) -> None:
    from quintet.data.documents.drafting import passages_file

    out.print(
        f"No teacher is named (--teacher-url), so nothing was drafted. Wrote the passages to "
        f"{escape(str(passages_file(target)))}, and to {escape(str(target))} a row for each: "
        "fill in its question and answer, or remove it.",
        soft_wrap=True,
    )


def _tell_outcome(outcome: "Outcome", target: Path) -> None:
    out.print(
        f"Wrote {outcome.rows:,} rows to {escape(str(target))}: {outcome.drafted:,} drafted, "
        f"{outcome.unsupported:,} not supported by their passage, {outcome.near_duplicates:,} near-duplicates",
        soft_wrap=True,
    )
    for passage, reason in outcome.failed.items():
        out.print(f" [yellow]failed {escape(passage)}: {escape(reason)}[/]", soft_wrap=True)
    out.print("They are drafts: read them before anything is trained on them.", style="dim")


def _describe(
    library: "Library", passages: "list[Passage]", outcome: "Outcome | None", target: Path
) -> dict[str, object]:
    from quintet.data.documents.drafting import passages_file

    values: dict[str, object] = {
        "documents": len(library.documents),
        "passages": len(passages),
        "left_out": dict(library.left_out),
        "notes": {document.name: list(document.notes) for document in library.documents if document.notes},
        "out": str(target),
    }
    if outcome is None:
        return values | {"passages_file": str(passages_file(target))}
    return values | outcome.as_json()
