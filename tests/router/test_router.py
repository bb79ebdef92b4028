"""A router answers for its candidates alone, and is on disk what it was in memory."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from quintet.errors import NoRouterError
from quintet.router.fitting import fit_router
from quintet.router.questions import Questions
from quintet.router.router import Router

QUESTIONS = ("How does mileage work?", "Whose is this?", "sick pay or petty cash")


def test_it_says_what_scikit_learn_would_say(router: Router, questions: Questions) -> None:
    from quintet.router.fitting import _fit, calibrate, label, weigh

    fitted = _fit(questions.train, router.departments)
    held_out = [question.text for question in questions.held_out]
    labels = label(questions.held_out, router.departments)
    slope, offset = calibrate(fitted.scores(held_out), labels, weigh(labels))
    ours = np.array([router.scores(text) for text in held_out])
    assert np.abs(ours - (slope * fitted.scores(held_out) + offset)).max() < 1e-4


def test_it_reads_back_what_it_wrote(router: Router, tmp_path: Path) -> None:
    router.save(tmp_path / "runs" / "router.safetensors")
    again = Router.load(tmp_path / "runs" / "router.safetensors")
    for question in QUESTIONS:
        assert again.rank(question, router.departments) == router.rank(question, router.departments)
    about = ("departments", "threshold", "max_error", "digest")
    assert [getattr(again, name) for name in about] == [getattr(router, name) for name in about]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["router.safetensors"]


def test_those_who_are_no_candidates_are_nowhere_in_what_it_says(router: Router) -> None:
    two = router.rank("How does a discount on an invoice work?", ["hr", "finance"])
    everyone = {
        one.department: one.probability
        for one in router.rank("How does a discount on an invoice work?", router.departments)
    }
    assert [one.department for one in two] == ["finance", "hr"]
    # As odds against none of them, which nobody else's odds change.
    nobody, nobody_of_two = 1 - sum(everyone.values()), 1 - sum(one.probability for one in two)
    for one in two:
        assert one.probability / nobody_of_two == pytest.approx(everyone[one.department] / nobody, rel=1e-4)


def test_one_who_may_ask_a_single_department_is_not_always_sent_there(router: Router) -> None:
    assert router.is_sure(router.rank("How does overtime work?", ["hr"])[0])
    assert not router.is_sure(router.rank("How does a warranty work?", ["hr"])[0])


def test_candidates_that_it_does_not_know_are_left_out(router: Router) -> None:
    assert [one.department for one in router.rank("mileage", ["finance", "legal"])] == ["finance"]
    assert router.rank("mileage", []) == []


def test_a_very_long_question_takes_no_longer_than_a_long_one(router: Router) -> None:
    text = "How does annual leave work? "
    assert router.rank(text * 10_000, ["hr"]) == router.rank(text * 100, ["hr"])


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", pickle.dumps("a pickle")])
def test_a_file_that_is_no_router_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "router.safetensors"
    path.write_bytes(content)
    with pytest.raises(NoRouterError, match=r"cannot be read.*quintet router train"):
        Router.load(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    save_file({"intercepts": np.zeros(1)}, tmp_path / "router.safetensors", {"format": "0"})
    with pytest.raises(NoRouterError, match="of this version"):
        Router.load(tmp_path / "router.safetensors")


def test_without_a_file_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NoRouterError, match="quintet router train; or name the department"):
        Router.load(tmp_path / "router.safetensors")


def test_training_twice_gives_the_same_router(router: Router, questions: Questions) -> None:
    again = fit_router(router.departments, questions, 0.05)
    assert again.scores("mileage").tolist() == router.scores("mileage").tolist()
