"""How well the router knows what it was never shown, each department left out of it in turn; and how fast it is.

python -m benchmarks.router [PROJECT]        without one, the sample company
"""

import argparse
import time
from pathlib import Path

from quintet.cli.scaffold import SAMPLE
from quintet.config import Project
from quintet.evaluation.general import general_examples
from quintet.router.fitting import fit_router
from quintet.router.measuring import RouterScores, measure_router
from quintet.router.questions import LabelledQuestion, Questions, asked
from quintet.router.router import Router
from quintet.router.training import gather

ROUNDS = 5


def without(questions: list[LabelledQuestion], name: str) -> list[LabelledQuestion]:
    """Return the questions that are not a department's."""
    return [question for question in questions if question.department != name]


def leaving_out(name: str, departments: list[str], questions: Questions, max_error: float) -> RouterScores:
    """Return what a router that never saw a department does with its own questions, and with that department's."""
    others = [other for other in departments if other != name]
    known = Questions(without(questions.train, name), without(questions.held_out, name))
    unseen = [LabelledQuestion(question.text, None) for question in questions.held_out if question.department == name]
    return measure_router(fit_router(others, known, max_error), known.held_out, unseen)


def milliseconds(router: Router, questions: list[LabelledQuestion]) -> float:
    """Return how long one question takes, in the best round."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for question in questions:
            router.rank(question.text, router.departments)
        rounds.append(time.perf_counter() - began)
    return min(rounds) / len(questions) * 1000


def tell(name: str, scores: RouterScores) -> None:
    """Print one row: what is sent, and what of that is wrong."""
    sent = scores.chosen
    print(f"{name:<24} accuracy {scores.accuracy:.3f}  macro F1 {scores.macro_f1:.3f}  ECE {scores.ece:.3f}  "
          f"sent {sent.sent:.1%}  wrong {sent.wrong:.1%}  nobody's left unsent {1 - sent.nobodys:.0%}")  # fmt: skip


def main(root: Path) -> None:
    """Print the scores of the whole router, its speed, and its scores without each department."""
    project = Project.load(root)
    questions, problems = gather(project)
    departments = [name for name in project.config.departments if name not in problems]
    max_error = project.config.router.max_error
    began = time.perf_counter()
    router = fit_router(departments, questions, max_error)
    print(f"fitted to {len(questions.train)} questions in {time.perf_counter() - began:.1f} s, "
          f"{milliseconds(router, questions.held_out):.2f} ms a question")  # fmt: skip
    general = [LabelledQuestion(asked(example), None) for example in general_examples(project)]
    tell("all; general questions", measure_router(router, questions.held_out, general))
    for name in departments if len(departments) > 1 else ():
        tell(f"without {name}", leaving_out(name, departments, questions, max_error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", nargs="?", type=Path, default=SAMPLE)
    main(parser.parse_args().project)
