"""What the sample company promises to a newcomer."""

import difflib
import json
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations

import pytest

from quintet.cli.scaffold import SAMPLE
from quintet.data.examples import Example
from quintet.data.loading import load_examples

DEPARTMENTS = ("hr", "finance", "sales", "healthcare", "marketing")


@cache
def trained(department: str) -> list[Example]:
    return load_examples(SAMPLE / "departments" / f"{department}.jsonl")


@cache
def held_out(department: str) -> list[Example]:
    return load_examples(SAMPLE / "departments" / f"{department}.eval.jsonl")


def preferences(department: str) -> list[dict[str, str]]:
    lines = (SAMPLE / "departments" / f"{department}.preferences.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


each_department = pytest.mark.parametrize("department", DEPARTMENTS)


@each_department
def test_there_are_eighty_facts_or_more_each_asked_in_four_ways_or_more(department: str) -> None:
    ways = Counter(example.group for example in trained(department))
    assert len(ways) >= 80
    assert min(ways.values()) >= 4


@each_department
def test_one_fact_has_one_answer_and_one_answer_belongs_to_one_fact(department: str) -> None:
    answers = defaultdict(set)
    for example in trained(department) + held_out(department):
        answers[example.group].add(example.answer)
    assert all(len(found) == 1 for found in answers.values())
    assert len(set.union(*answers.values())) == len(answers)


@each_department
def test_phrasings_of_a_fact_are_really_different(department: str) -> None:
    groups = defaultdict(list)
    for example in trained(department) + held_out(department):
        groups[example.group].append(example.question.lower())
    for questions in groups.values():
        for one, other in combinations(questions, 2):
            assert difflib.SequenceMatcher(None, one, other).ratio() <= 0.85, (one, other)


@each_department
def test_every_fact_has_a_held_out_phrasing_that_no_department_trains_on(department: str) -> None:
    everything = {" ".join(e.question.lower().split()) for name in DEPARTMENTS for e in trained(name)}
    questions = {" ".join(e.question.lower().split()) for e in held_out(department)}
    assert not questions & everything
    assert {e.group for e in held_out(department)} == {e.group for e in trained(department)}


@each_department
def test_answers_are_one_to_four_sentences(department: str) -> None:
    for example in held_out(department):
        assert 3 <= len(example.answer.split()) <= 60, example.answer


@each_department
def test_every_number_and_form_of_an_answer_stands_in_the_handbook(department: str) -> None:
    handbook = (SAMPLE / "handbooks" / f"{department}.md").read_text("utf-8")
    handbook += (SAMPLE / "company.md").read_text("utf-8")
    for example in held_out(department):
        for figure in re.findall(r"(?:[A-Z]{2}-)?\d+(?:[.,:]\d+)*", example.answer):
            assert figure in handbook, (figure, example.answer)


@each_department
def test_preferences_are_forty_or_more_real_choices(department: str) -> None:
    rows = preferences(department)
    assert len(rows) >= 40
    assert all(row["chosen"].strip() and row["rejected"].strip() for row in rows)
    assert all(row["chosen"] != row["rejected"] for row in rows)
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert len({row["why"] for row in rows}) >= 5


@each_department
def test_some_questions_are_handed_on(department: str) -> None:
    extensions = {"hr": 2100, "finance": 2200, "sales": 2300, "healthcare": 2400, "marketing": 2500}
    extensions.pop(department)
    handed_on = [e for e in held_out(department) if any(str(x) in e.answer for x in extensions.values())]
    assert len(handed_on) >= 4
