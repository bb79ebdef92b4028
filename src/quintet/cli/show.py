"""`quintet data show`: an example as the model will see it."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from quintet.cli.console import HERE, AsJson, Folder, out, print_json
from quintet.config import Project
from quintet.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quintet.chat import ChatTranslator
    from quintet.data.examples import Example, Refusal
    from quintet.data.preview import Preview

TRAINED, REST, EDGE = "bold green", "dim", "dim"


def show(
    department: Annotated[str, typer.Argument(help="The department, as named in quintet.yaml.")],
    row: Annotated[int, typer.Option("--row", "-r", min=1, help="The first row to show, from 1.")] = 1,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many rows to show.")] = 1,
    held_out: Annotated[bool, typer.Option("--held-out", help="Show rows that are measured with instead.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file instead.")] = None,
    project: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show rows as the model will see them: every token, and in green those that are trained.

    [bold]Examples:[/] quintet data show hr · quintet data show hr --row 12 -n 3 --html hr.html
    """
    opened = Project.load(project)
    previews = _previews(opened, department, row, count, held_out)
    if html is not None:
        from quintet.data.preview_page import preview_page

        html.write_text(preview_page(f"{department}: what is trained", previews), encoding="utf-8")
        out.print(f"Wrote {len(previews)} examples to {html}", soft_wrap=True, markup=False)
    elif as_json:
        print_json([_describe(preview) for preview in previews])
    else:
        for preview in previews:
            out.print(preview.title, style="bold", soft_wrap=True, markup=False)
            from quintet.data.preview_page import visible

            text, trained = Text(), False
            for token in preview.tokens:
                if token.trained != trained:
                    text.append("⟦" if token.trained else "⟧", TRAINED)
                    trained = token.trained
                elif text and not text.plain.endswith("\n"):
                    text.append("│", EDGE)
                text.append(visible(token.text), TRAINED if token.trained else REST)
                text.append("\n" if "\n" in token.text else "")
            text.append("⟧\n" if trained else "\n", TRAINED)
            out.print(text, soft_wrap=True)


def _previews(project: Project, department: str, row: int, count: int, held_out: bool) -> "list[Preview]":
    from quintet.chat import ChatTranslator
    from quintet.data.preview import preview
    from quintet.models import base_model

    source = base_model.locate(project.config.base_model, project.root)
    translator = ChatTranslator(base_model.load_tokenizer(source))
    chosen = list(islice(_rows(project, department, held_out), row - 1, row - 1 + count))
    if not chosen:
        raise DataError([f"{department} has no row {row}; show an earlier one"])
    fitted = _fit(chosen, translator, base_model.context_length(source), project, department)
    return [one for example in fitted for one in preview(example, translator)]


def _rows(project: Project, department: str, held_out: bool) -> "Iterable[Example | Refusal]":
    from quintet.data.loading import ExampleReader
    from quintet.data.splits import load_split

    settings = project.department(department)
    if held_out and settings.eval_data is None:
        return load_split(project, department).held_out
    own = project.path(settings.eval_data) if held_out and settings.eval_data else project.data(department)
    return ExampleReader(own, settings.format)


def _fit(
    rows: "list[Example | Refusal]", translator: "ChatTranslator", context: int, project: Project, department: str
) -> "list[Example]":
    """Return the rows as they are trained, cut or parted where the department says so."""
    from quintet.data.examples import Example, Refusal
    from quintet.data.fitting import Fitter

    if refused := [str(row) for row in rows if isinstance(row, Refusal)]:
        raise DataError(refused)
    fitter = Fitter(translator, context, project.department(department).too_long)
    return fitter.fit_all(row for row in rows if isinstance(row, Example)).examples


def _describe(preview: "Preview") -> dict[str, object]:
    return {
        "place": str(preview.place),
        "answer": preview.answer or None,
        "total": len(preview.tokens),
        "trained": preview.trained,
        "tokens": [{"id": token.id, "text": token.text, "trained": token.trained} for token in preview.tokens],
    }
