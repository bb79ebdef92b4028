"""What an evaluation leaves for people: the report beside the run, the scores in the model card, XML for CI."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quintet.config import Project
from quintet.evaluation.compare import card_scores
from quintet.evaluation.reports.junit import junit_xml
from quintet.evaluation.reports.report import report_page
from quintet.evaluation.results import EXPERT, Evaluation, Verdict
from quintet.files import write_text
from quintet.registry.evidence import record_evidence
from quintet.registry.experts import Expert, record_metrics
from quintet.registry.run_files import CURVE_FILE, write_card

REPORT_FILE = "report.html"


def write_report(project: Project, expert: Expert, evaluation: Evaluation, verdicts: Sequence[Verdict]) -> Path:
    """Write the page beside the run, the scores into the expert's card and the registry; return the page's path."""
    run = expert.folder.parent
    curve = run / CURVE_FILE
    page = report_page(
        evaluation, verdicts, curve.read_bytes() if curve.is_file() else None, company=project.config.company
    )
    write_text(run / REPORT_FILE, page)
    write_card(project, expert, card_scores(evaluation), len(evaluation.items))
    record_metrics(project, expert.name, evaluation.scores[EXPERT])
    record_evidence(project, expert.name, _evidence(project, expert, evaluation, verdicts))
    return run / REPORT_FILE


def _evidence(project: Project, expert: Expert, evaluation: Evaluation, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    rules = project.gate(expert.department)
    return {
        "questions": len(evaluation.items),
        "metric": rules.metric,
        "names": evaluation.names,
        "scores": evaluation.scores,
        "differences": {other: asdict(one) for other, one in evaluation.comparisons.items()},
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "rules": rules.model_dump(mode="json"),
    }


def write_junit(path: Path, results: Sequence[tuple[Evaluation, Sequence[Verdict]]]) -> None:
    """Write the verdicts of all evaluations as one JUnit file."""
    write_text(path, junit_xml(results))
