# ruff: noqa: RUF001 (the signs as the reader sees them)

from xml.etree import ElementTree as ET

from quintet.evaluation.reports.junit import junit_xml
from quintet.evaluation.results import Verdict
from tests.evaluation.evaluations import FAILED, HOSTILE, PASSED, evaluation


def suite_of(*verdicts: Verdict) -> ET.Element:
    root = ET.fromstring(junit_xml([(evaluation(), verdicts)]))
    assert root.tag == "testsuites"
    (suite,) = root
    return suite


def test_each_rule_is_a_test_case() -> None:
    suite = suite_of(PASSED, FAILED)
    cases = [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")]
    assert cases == [("quintet.gate.hr@3", "better-than-base"), ("quintet.gate.hr@3", "better-than-live")]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("quintet gate hr@3", "2", "1")


def test_a_failure_says_what_failed_with_both_numbers() -> None:
    (failure,) = suite_of(PASSED, FAILED).iter("failure")
    assert failure.get("message") == FAILED.said
    assert failure.text == f"{FAILED.said}\nfound −0.0213, limit 0.01"


def test_a_rule_that_passed_is_no_failure_but_keeps_its_words() -> None:
    suite = suite_of(PASSED)
    assert suite.find(".//failure") is None
    assert suite.findtext(".//system-out") == f"{PASSED.said}\nfound 0.412, limit 0"


def test_the_scores_are_properties() -> None:
    found = {one.get("name"): one.get("value") for one in suite_of().iter("property")}
    assert found["method"] == "lora"
    assert found["items"] == "3"
    assert found["expert.f1"] == "0.8249"


def test_without_verdicts_the_suite_is_empty() -> None:
    suite = suite_of()
    assert suite.get("tests") == "0"
    assert suite.find("testcase") is None


def test_markup_comes_back_as_it_was() -> None:
    (failure,) = suite_of(Verdict(HOSTILE, False, 0.0, 1.0, HOSTILE)).iter("failure")
    assert failure.get("message") == HOSTILE
    assert failure.get("type") == HOSTILE


def test_characters_that_xml_forbids_are_dropped() -> None:
    (failure,) = suite_of(Verdict("a\x00b", False, 0.0, 1.0, "be\x1b[1mll\x07\ud800\ufffe 🙂\tend")).iter("failure")
    assert failure.get("type") == "ab"
    assert (failure.text or "").startswith("be[1mll 🙂\tend\n")
