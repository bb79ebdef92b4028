"""A small company whose departments speak of different things, and its router."""

from collections.abc import Iterator
from itertools import product

import pytest

from quintet.router.fitting import fit_router
from quintet.router.questions import LabelledQuestion, Questions
from quintet.router.router import Router

SUBJECTS = {
    "hr": ("annual leave", "probation", "sick pay", "overtime", "maternity leave", "my pension", "a grievance"),
    "finance": ("an invoice", "mileage", "a purchase order", "month end", "petty cash", "a receipt", "the budget"),
    "sales": ("a discount", "the price list", "a warranty", "a quote", "delivery", "a refund", "a demo device"),
}
WORDINGS = ("What is the rule for {}?", "Tell me about {}.", "Who decides on {}?", "How does {} work?")
UNSEEN_WORDINGS = ("I have a question on {}.", "Can somebody explain {} to me?")
DEPARTMENTS = tuple(SUBJECTS)


def _ask(wordings: tuple[str, ...]) -> Iterator[LabelledQuestion]:
    for name, subjects in SUBJECTS.items():
        yield from (LabelledQuestion(wording.format(subject), name) for subject, wording in product(subjects, wordings))


@pytest.fixture(scope="package")
def questions() -> Questions:
    found = Questions()
    found.train += _ask(WORDINGS)
    found.held_out += _ask(UNSEEN_WORDINGS)
    return found


@pytest.fixture(scope="package")
def router(questions: Questions) -> Router:
    return fit_router(DEPARTMENTS, questions, 0.05, "the digest")
