"""The gate's verdicts → JUnit XML, which every CI service reads. Decides nothing."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from quintet.evaluation.reports.metric_words import plain
from quintet.evaluation.results import EXPERT, Evaluation, Verdict

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, escaped or not (section 2.2)."""


def junit_xml(results: Sequence[tuple[Evaluation, Sequence[Verdict]]]) -> str:
    """Return a test suite for each evaluation, a test case for each rule, and the expert's scores as properties."""
    root = _add(None, "testsuites", name="quintet", **_counts([v for _, verdicts in results for v in verdicts]))
    for evaluation, verdicts in results:
        name = evaluation.names.get(EXPERT, EXPERT)
        suite = _add(root, "testsuite", name=f"quintet gate {name}", **_counts(verdicts), skipped=0)
        properties = _add(suite, "properties")
        for key, value in _properties(evaluation).items():
            _add(properties, "property", name=key, value=value)
        for verdict in verdicts:
            case = _add(suite, "testcase", classname=f"quintet.gate.{name}", name=verdict.rule)
            numbers = f"found {plain(verdict.found)}, limit {plain(verdict.limit)}"
            words = f"{_writable(verdict.said)}\n{numbers}"
            if verdict.passed:
                _add(case, "system-out").text = words
            else:
                _add(case, "failure", type=verdict.rule, message=verdict.said).text = words
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written.decode("utf-8") + "\n"


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    return {"tests": len(verdicts), "failures": sum(not verdict.passed for verdict in verdicts), "errors": 0}


def _properties(evaluation: Evaluation) -> dict[str, object]:
    return {
        "department": evaluation.department,
        "method": evaluation.method,
        "base_model": evaluation.base_model,
        "identity": evaluation.identity,
        "items": len(evaluation.items),
        **{
            f"{contestant}.{metric}": value
            for contestant, scores in evaluation.scores.items()
            for metric, value in scores.items()
        },
    }


def _add(parent: ET.Element | None, tag: str, **attributes: object) -> ET.Element:
    written = {key: _writable(str(value)) for key, value in attributes.items()}
    return ET.Element(tag, written) if parent is None else ET.SubElement(parent, tag, written)


def _writable(text: str) -> str:
    return _FORBIDDEN.sub("", text)
