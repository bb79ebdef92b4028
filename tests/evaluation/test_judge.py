import re
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import TypeAdapter

from quintet.config.endpoint import EndpointSettings
from quintet.errors import EndpointError
from quintet.evaluation.judge import IN_FLIGHT, REFUSALS_IN_A_ROW, judge_evaluation, read_verdict
from quintet.evaluation.results import BASE, LIVE, Evaluation, Item, Judged
from tests.evaluation.evaluations import evaluation, item
from tests.fake_endpoint import FakeEndpoint, Reply, prompt_of, refuses, says

Judge = Callable[[dict[str, Any]], Reply]


def answers_in(body: dict[str, Any]) -> tuple[str, str]:
    found = re.search(r"<first>\n(.*)\n</first>\n<second>\n(.*)\n</second>", prompt_of(body), re.DOTALL)
    assert found is not None
    return found[1], found[2]


def prefers(word: str) -> Judge:
    """A fair judge, who prefers the one answer that holds the word."""

    def answer(body: dict[str, Any]) -> Reply:
        first, second = (word in text for text in answers_in(body))
        return says(f"verdict: {'tie' if first == second else 'first' if first else 'second'}")

    return answer


def always(content: str | None) -> Judge:
    return lambda body: says(content)


def questions(*answers: tuple[str, str]) -> tuple[Item, ...]:
    """Items with a base's and an expert's answer each."""
    return tuple(
        item(f"Question {number}?", "So.", base=base, expert=expert) for number, (base, expert) in enumerate(answers)
    )


def settings(endpoint: FakeEndpoint, key: str | None = None) -> EndpointSettings:
    return EndpointSettings(endpoint.url, "big", key, "MY_KEY", "judge")


def judge(endpoint: FakeEndpoint, *answers: tuple[str, str]) -> Judged:
    one = evaluation(items=questions(*answers), live=False)
    return judge_evaluation(one, settings(endpoint)).judged[BASE]


def counts(found: Judged) -> dict[str, int]:
    return {name: value for name, value in asdict(found).items() if isinstance(value, int)}


def test_what_both_orders_agree_on_counts(endpoint: FakeEndpoint) -> None:
    endpoint.answer = prefers("good")
    found = judge(endpoint, ("bad", "good"), ("good", "bad"), ("bad", "worse"), ("so so", "good"))
    assert counts(found) == {"wins": 2, "ties": 1, "losses": 1, "inconsistent": 0, "unreadable": 0}
    assert found.verdicts == ("win", "loss", "tie", "win")


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_judge_who_likes_a_place_decides_nothing(endpoint: FakeEndpoint, place: str) -> None:
    endpoint.answer = always(f"verdict: {place}")
    found = judge(endpoint, ("bad", "good"), ("good", "bad"), ("a", "b"))
    assert counts(found) == {"wins": 0, "ties": 3, "losses": 0, "inconsistent": 3, "unreadable": 0}
    assert found.verdicts == ("inconsistent",) * 3


def test_a_tie_in_one_order_alone_is_no_agreement(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda body: says("verdict: first" if answers_in(body)[0] == "good" else "verdict: tie")
    assert judge(endpoint, ("bad", "good")).verdicts == ("inconsistent",)


def test_a_reply_without_a_verdict_is_unreadable_and_not_guessed(endpoint: FakeEndpoint) -> None:
    fair = prefers("fine")
    endpoint.answer = lambda body: says("Hm.") if answers_in(body)[0] == "good" else fair(body)
    found = judge(endpoint, ("bad", "good"), ("bad", "fine"))
    assert counts(found) == {"wins": 1, "ties": 0, "losses": 0, "inconsistent": 0, "unreadable": 1}
    assert found.verdicts == ("unreadable", "win")


def test_each_pair_is_asked_once_in_each_order(endpoint: FakeEndpoint) -> None:
    endpoint.answer = always("tie")
    judge(endpoint, ("bad", "good"))
    assert [answers_in(body) for body in endpoint.bodies] == [("good", "bad"), ("bad", "good")]
    assert all("<question>\nQuestion 0?\n</question>" in prompt_of(body) for body in endpoint.bodies)
    assert all("<reference>\nSo.\n</reference>" in prompt_of(body) for body in endpoint.bodies)
    assert {(body["model"], body["temperature"]) for body in endpoint.bodies} == {("big", 0)}


def test_the_same_answer_is_a_tie_that_nobody_is_asked_about(endpoint: FakeEndpoint) -> None:
    assert judge(endpoint, ("So.", "So.")).verdicts == ("tie",)
    assert endpoint.bodies == []


def test_answers_are_judged_by_what_they_say_aloud(endpoint: FakeEndpoint) -> None:
    endpoint.answer = always("tie")
    assert judge(endpoint, ("<think>Hm.</think>So.", "So.")).verdicts == ("tie",)
    judge(endpoint, ("No.", "<think>No?</think>\nSo."))
    assert answers_in(endpoint.bodies[0]) == ("So.", "No.")


def test_braces_and_half_characters_in_an_answer_are_sent_as_text(endpoint: FakeEndpoint) -> None:
    endpoint.answer = always("tie")
    assert judge(endpoint, ("{question} {0}", "\ud83d")).verdicts == ("tie",)
    assert answers_in(endpoint.bodies[0]) == ("?", "{question} {0}")


def test_the_live_release_is_another_contestant(endpoint: FakeEndpoint) -> None:
    endpoint.answer = prefers("good")
    items = (item("Why?", "So.", base="bad", live="very good", expert="good"),)
    found = judge_evaluation(evaluation(items=items), settings(endpoint)).judged
    assert {key: one.verdicts for key, one in found.items()} == {BASE: ("win",), LIVE: ("tie",)}


def test_a_pair_that_occurs_again_is_asked_once(endpoint: FakeEndpoint) -> None:
    endpoint.answer = prefers("good")
    items = (item("Why?", "So.", base="bad", live="bad", expert="good"),)
    found = judge_evaluation(evaluation(items=items), settings(endpoint)).judged
    assert found[BASE].verdicts == found[LIVE].verdicts == ("win",)
    assert len(endpoint.bodies) == 2


def test_what_was_asked_whom_and_where_is_kept_without_secrets(endpoint: FakeEndpoint) -> None:
    endpoint.answer = always("tie")
    given = EndpointSettings(f"{endpoint.url}?code=hush", "big", "secret")
    one = judge_evaluation(evaluation(items=questions(("a", "b")), live=False), given)
    found = one.judged[BASE]
    assert (found.model, found.url) == ("big", endpoint.url)
    assert "{reference}" in found.prompt
    assert endpoint.keys == ["Bearer secret"] * 2
    assert endpoint.paths == ["/v1/chat/completions?code=hush"] * 2
    stored = TypeAdapter(Evaluation).dump_json(one)
    assert not any(secret in stored for secret in (b"secret", b"hush"))


def test_a_judged_evaluation_comes_back_from_its_file(endpoint: FakeEndpoint) -> None:
    endpoint.answer = prefers("good")
    one = judge_evaluation(evaluation(items=questions(("bad", "good")), live=False), settings(endpoint))
    kind = TypeAdapter(Evaluation)
    assert kind.validate_json(kind.dump_json(one)) == one


def test_the_rest_of_the_evaluation_stays(endpoint: FakeEndpoint) -> None:
    endpoint.answer = always("tie")
    one = evaluation(items=questions(("a", "b")), live=False)
    assert asdict(judge_evaluation(one, settings(endpoint))) | {"judged": {}} == asdict(one)


def test_progress_counts_the_pairs_that_are_asked_about(endpoint: FakeEndpoint) -> None:
    endpoint.answer = always("tie")
    seen: list[tuple[int, int]] = []
    one = evaluation(items=questions(("a", "b"), ("c", "c"), ("d", "e")), live=False)
    judge_evaluation(one, settings(endpoint), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_so_many_are_asked_at_once_and_no_more(endpoint: FakeEndpoint) -> None:
    here = threading.Barrier(IN_FLIGHT)
    lock, now, most = threading.Lock(), 0, 0

    def answer(body: dict[str, Any]) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        here.wait(30)  # breaks unless as many are asked at once
        with lock:
            now -= 1
        here.wait(30)
        return says("tie")

    endpoint.answer = answer
    found = judge(endpoint, *((f"a{number}", f"b{number}") for number in range(2 * IN_FLIGHT)))
    assert found.ties == 2 * IN_FLIGHT
    assert most == IN_FLIGHT


def test_an_answer_that_the_judge_does_not_take_is_unreadable(endpoint: FakeEndpoint) -> None:
    fair = prefers("good")
    endpoint.answer = lambda body: refuses(400, "too long") if "endless" in prompt_of(body) else fair(body)
    assert judge(endpoint, ("bad", "good"), ("bad", "endless"), ("bad", "good!")).verdicts == (
        "win",
        "unreadable",
        "win",
    )


@pytest.mark.parametrize("pairs", [1, REFUSALS_IN_A_ROW])
def test_a_judge_that_takes_nothing_is_an_error(endpoint: FakeEndpoint, pairs: int) -> None:
    endpoint.answer = lambda body: refuses(400, "context length is 16")
    with pytest.raises(EndpointError, match=r"questions in a row came to nothing: .* answered 400: context length"):
        judge(endpoint, *((f"a{number}", f"b{number}") for number in range(pairs)))


def test_a_refused_key_is_told_by_its_variable_and_never_shown(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda body: refuses(401, "wrong key: hush")
    one = evaluation(items=questions(("a", "b")), live=False)
    with pytest.raises(EndpointError, match=r"wrong key: \(the key\); it was sent the key in \$MY_KEY") as caught:
        judge_evaluation(one, settings(endpoint, "hush"))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("verdict: first", "first"),
        ("Both name the date, the second adds the place.\n\nVerdict: second", "second"),
        ("**Verdict:** tie", "tie"),
        ("**verdict: first**\n", "first"),
        ("Final verdict: the second answer.", "second"),
        ('{"verdict": "first"}', "first"),
        ("tie", "tie"),
        ("**First**.", "first"),
        ("The second answer", "second"),
        ("<think>verdict: first</think>verdict: second", "second"),
        ("It seems... verdict: first</think>\nverdict: second", "second"),
        ("verdict: first\nverdict: first", "first"),
    ],
)
def test_a_verdict_is_read(reply: str, verdict: str) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    "reply",
    [
        "I cannot say.",
        "First, I look at the reference.",
        "The first answer is worse than the second",
        "verdict: first or second",
        "verdict: first\nverdict: second",
        "verdict: neither",
        "verdict:",
        "My verdict is not the first",
        "<think>verdict: first",
        "firstly",
        "A tie would be too kind to the second.",
        "\n" * 100_000 + "verdict",
    ],
)
def test_what_is_no_clear_verdict_is_none(reply: str) -> None:
    assert read_verdict(reply) is None
