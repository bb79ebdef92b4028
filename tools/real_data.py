"""Check real data sets as a user would, and print the table of docs/data.md.

python -m tools.real_data ../shared/data
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.check import check_department
from quintet.data.documents.drafting import cut_library
from quintet.data.documents.passages import count_words
from quintet.data.documents.reading import read_folder
from quintet.data.report import Report
from quintet.errors import DataError
from quintet.models import base_model

# What each set needs said in quintet.yaml beyond its file; most need nothing.
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "faq": ("business-docs/faq.jsonl", {}),
    "clinical-notes": (
        "clinical-notes/dialogs.jsonl",
        {"format": {"columns": {"prompt": "dialogue", "completion": "section_text"}}, "too_long": "truncate"},
    ),
    "conversations": ("conversations/taskmaster.jsonl", {}),
    "document-qa": ("document-qa/qa.jsonl", {}),
    "gsm8k": ("instructions/gsm8k-train.jsonl", {}),
    "seed-tasks": ("instructions/self-instruct-seed-tasks.jsonl", {}),
    "user-oriented": ("instructions/self-instruct-user-oriented.jsonl", {}),
    "medquad": ("medquad/qa.jsonl", {}),
    "llmbar": ("preferences/llmbar.jsonl", {}),
    "pubmedqa": (
        "pubmedqa/qa.jsonl",
        {"format": {"columns": {"instruction": "question", "input": "context", "output": "long_answer"}}},
    ),
    "banking77": ("routing/banking77.jsonl", {"format": {"labels": ["intent"]}}),
    "tatqa": (
        "tatqa/qa.jsonl",
        {"format": {"columns": {"instruction": "question", "input": "context", "output": "answer"}}},
    ),
    "vulnerability": (
        "vulnerability/train.jsonl",
        {
            "format": {
                "columns": {"text": "code_before_change"},
                "labels": ["cwe", "cve_id"],
                "instruction": "Which weakness does this function have?",
            },
            "too_long": "truncate",
        },
    ),
}


# Published with a split of its own: what is not `train` is measured with, and must not leak.
WITH_SPLIT = ("banking77", "clinical-notes")


def make_project(folder: Path, data: Path) -> Project:
    """Write a project with one department for each set that is there, and return it."""
    departments = {
        name: {"description": name, **_files(name, data / file, folder), **settings}
        for name, (file, settings) in SETS.items()
        if (data / file).is_file()
    }
    if not departments:
        raise SystemExit(f"{data} has none of the data sets; expected files such as {next(iter(SETS.values()))[0]}")
    (folder / "quintet.yaml").write_text(yaml.safe_dump({"base_model": "nano", "departments": departments}))
    return Project.load(folder)


def _files(name: str, file: Path, folder: Path) -> dict[str, str]:
    """Return what is trained, and of a set with a split of its own, in files of their own, what is held out."""
    if name not in WITH_SPLIT:
        return {"data": str(file.resolve())}
    lines = file.read_text("utf-8").splitlines(keepends=True)
    trained = [json.loads(line)["split"] == "train" for line in lines]
    for part, wanted in (("data", True), ("eval_data", False)):
        chosen = [line for line, is_trained in zip(lines, trained, strict=True) if is_trained == wanted]
        (folder / f"{name}.{part}.jsonl").write_text("".join(chosen), encoding="utf-8")
    return {part: f"{name}.{part}.jsonl" for part in ("data", "eval_data")}


def table_row(name: str, report: Report, seconds: float) -> str:
    """Return one row of the table."""
    parts = report.parts
    lengths, near = report.data.lengths, [part.near_duplicates for part in parts]
    assert lengths is not None
    kinds = sorted({kind for part in parts for kind in part.personal})
    personal = ", ".join(
        f"{kind} {sum(p.personal[kind].count for p in parts if kind in p.personal):,}" for kind in kinds
    )
    rows = sum(part.rows for part in parts)
    numbers = (rows, sum(p.refused.count for p in parts), lengths.percentiles["p50"],
               sum(p.too_long.count for p in parts), sum(p.duplicates.count for p in parts),
               sum(n.count for n in near if n), sum(p.contradictions.count for p in parts))  # fmt: skip
    leaks = f"{report.leaks.count:,} and {report.near_leaks.count:,}" if report.near_leaks else "-"
    damaged = sum(part.encoding.count for part in parts)
    cells = (
        name,
        *(f"{number:,}" for number in numbers),
        leaks,
        personal or "-",
        f"{damaged:,}",
        f"{rows / seconds:,.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def documents_row(name: str, file: Path, folder: Path) -> str:
    """Write a set's documents as files, read and cut them as `data from-documents` does, and return a table row."""
    with file.open(encoding="utf-8") as stream:
        documents = [json.loads(line) for line in stream]
    for number, document in enumerate(documents):
        path = folder / f"{number:05d}.md"
        path.write_text(document["text"], encoding="utf-8")
    refused = _refuse_and_remove(folder)
    began = time.monotonic()
    passages = cut_library(read_folder(folder), max_words=300)
    seconds, words = time.monotonic() - began, sorted(count_words(passage.text) for passage in passages)
    numbers = (len(documents), refused, len(passages), words[len(words) // 2], words[-1], len(documents) / seconds)
    cells = (name, *(f"{number:,.0f}" for number in numbers))
    return "| " + " | ".join(cells) + " |"


def _refuse_and_remove(folder: Path) -> int:
    """Remove the documents that the command refuses by name, as its user would, and return how many there were."""
    try:
        cut_library(read_folder(folder), max_words=300)
    except DataError as error:
        names = [line.partition(":")[0] for line in str(error).splitlines()]
        for name in names:
            (folder / name).unlink()
        return len(names)
    return 0


def print_documents(data: Path) -> None:
    """Print the table of the sets that are documents."""
    print("\n| documents | read | refused | passages | median words | longest | docs/s |\n|" + "---|" * 7)
    for name in ("handbooks", "business-docs"):
        with tempfile.TemporaryDirectory() as folder:
            print(documents_row(name, data / name / "docs.jsonl", Path(folder)), flush=True)


def main(data: Path) -> None:
    """Print the tables, and below them why rows were refused."""
    heads = ("set", "rows", "refused", "median tokens", "over 1,024", "repeated", "near", "two answers",
             "leaks, exact and near", "personal", "damaged", "rows/s")  # fmt: skip
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), data)
        source = base_model.locate("nano", project.root)
        translator = ChatTranslator(base_model.load_tokenizer(source))
        for name in project.config.departments:
            began = time.monotonic()
            report = check_department(project, name, translator, base_model.context_length(source))
            print(table_row(name, report, time.monotonic() - began), flush=True)
            for part in report.parts:
                if part.refused.places:
                    reasons.setdefault(name, part.refused.places[0].rsplit("/", 1)[-1])
    print_documents(data)
    print("\nThe first refusal of each:\n")
    print("\n".join(f"- {name}: {reason}" for name, reason in reasons.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data)
