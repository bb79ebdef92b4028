"""Check real data sets as a user would, and print the table of docs/data.md.

python -m tools.real_data ../shared/data
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from quintet import base_model
from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.data.check import check_department
from quintet.data.report import Report

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


def make_project(folder: Path, data: Path) -> Project:
    """Write a project with one department for each set that is there, and return it."""
    departments = {
        name: {"description": name, "data": str((data / file).resolve()), **settings}
        for name, (file, settings) in SETS.items()
        if (data / file).is_file()
    }
    if not departments:
        raise SystemExit(f"{data} has none of the data sets; expected files such as {next(iter(SETS.values()))[0]}")
    (folder / "quintet.yaml").write_text(yaml.safe_dump({"base_model": "nano", "departments": departments}))
    return Project.load(folder)


def table_row(name: str, report: Report, seconds: float) -> str:
    """Return one row of the table."""
    data = report.data
    assert data.near_duplicates is not None
    assert data.lengths is not None
    personal = ", ".join(f"{kind} {found.count:,}" for kind, found in data.personal.items()) or "-"
    cells = (
        name, f"{data.rows:,}", f"{data.refused.count:,}", f"{data.lengths.percentiles['p50']:,}",
        f"{data.too_long.count:,}", f"{data.duplicates.count:,}", f"{data.near_duplicates.count:,}",
        f"{data.contradictions.count:,}", personal, f"{data.encoding.count:,}", f"{data.rows / seconds:,.0f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main(data: Path) -> None:
    """Print the table, and below it why rows were refused."""
    heads = ("set", "rows", "refused", "median tokens", "over 1,024", "repeated", "near", "two answers",
             "personal", "damaged", "rows/s")  # fmt: skip
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
            if report.data.refused.places:
                reasons[name] = report.data.refused.places[0].rsplit("/", 1)[-1]
    print("\nThe first refusal of each:\n")
    print("\n".join(f"- {name}: {reason}" for name, reason in reasons.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data)
