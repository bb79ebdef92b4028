import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

import pytest

from quintet.clients.openai import ATTEMPTS
from quintet.data.documents.teacher import DraftedPair, Teacher, TeacherSettings, parse_drafts
from quintet.errors import ConfigError, EndpointError, UnusableAnswerError
from tests.data.documents.conftest import FakeTeacher
from tests.fake_endpoint import HangupError, Reply, refuses, says

PAIR = '[{"question": "How many days?", "answer": "Twenty."}]'
T = TypeVar("T")
DRAFT = DraftedPair("How many days?", "Twenty.")


class Client:
    """Asks the fake teacher, and notes the waits instead of waiting."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.settings = TeacherSettings(url, "small", key, "MY_KEY")
        self.waits: list[float] = []

    def draft(self, questions: int = 3) -> list[DraftedPair]:
        return self._run(lambda teacher: teacher.draft("a.md > Leave", "Twenty days.", questions))

    def supports(self) -> bool:
        return self._run(lambda teacher: teacher.supports("a.md > Leave", "Twenty days.", DRAFT))

    def refusal(self, kind: type[EndpointError] = EndpointError) -> str:
        with pytest.raises(kind) as caught:
            self.draft()
        assert type(caught.value) is kind
        return str(caught.value)

    def _run(self, ask: Callable[[Teacher], Coroutine[Any, Any, T]]) -> T:
        async def wait(seconds: float) -> None:
            self.waits.append(seconds)

        async def run() -> T:
            async with Teacher(self.settings, sleep=wait) as teacher:
                return await ask(teacher)

        return asyncio.run(run())


def test_a_draft_request_holds_the_model_the_passage_and_its_source(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(says(PAIR))
    assert Client(teacher.url, "secret").draft() == [DRAFT]
    (body,) = teacher.bodies
    assert (body["model"], body["temperature"]) == ("small", 0)
    assert "Source: a.md > Leave\n<passage>\nTwenty days.\n</passage>" in body["messages"][1]["content"]
    assert "up to 3 questions" in body["messages"][1]["content"]
    assert teacher.keys == ["Bearer secret"]


def test_without_a_key_none_is_sent(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(says(PAIR))
    Client(teacher.url).draft()
    assert teacher.keys == [None]


def test_more_questions_than_were_asked_for_are_not_taken(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(says(json.dumps([{"question": q, "answer": "So."} for q in "abc"])))
    assert [draft.question for draft in Client(teacher.url).draft(2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("http://host", "http://host/v1/chat/completions"),
        ("http://host:8000/v1/", "http://host:8000/v1/chat/completions"),
        ("https://host/proxy/v1/chat/completions", "https://host/proxy/v1/chat/completions"),
        ("https://host/openai/v1?api-version=1", "https://host/openai/v1/chat/completions?api-version=1"),
    ],
)
def test_the_endpoint_is_found_from_the_url(given: str, endpoint: str) -> None:
    assert TeacherSettings(given, "small").chat_url == endpoint


@pytest.mark.parametrize(
    "given", ["", "host/v1", "ftp://host/v1", "http://", "http://host:port/v1", "file:///etc/passwd"]
)
def test_a_url_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one such as https://host/v1"):
        TeacherSettings(given, "small")


@pytest.mark.parametrize("given", ["https://me:hush@host/v1", "https://me:hush@host:port/v1", "me:hush@host/v1"])
def test_a_password_in_the_url_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(ConfigError, match=r"put it in \$MY_KEY") as caught:
        TeacherSettings(given, "small", key_name="MY_KEY")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("key", ["clé", "two\nlines"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match=r"the key in \$MY_KEY holds characters") as caught:
        TeacherSettings("https://host", "small", key, "MY_KEY")
    assert key not in str(caught.value)


def test_the_key_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(TeacherSettings("https://host", "small", "secret"))


@pytest.mark.parametrize(
    "trouble", [refuses(500, "x"), refuses(503, "x"), refuses(429, "x"), refuses(408, "x"), HangupError]
)
def test_passing_trouble_is_waited_out_longer_each_time(
    teacher: FakeTeacher, trouble: Reply | type[HangupError]
) -> None:
    teacher.answers_in_turn(trouble, trouble, says(PAIR))
    client = Client(teacher.url)
    assert client.draft() == [DRAFT]
    assert client.waits == [1, 2]


def test_retry_after_is_heeded_in_seconds(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(refuses(429, "slow down", Retry_After="7"), says(PAIR))
    client = Client(teacher.url)
    client.draft()
    assert client.waits == [7]


def test_retry_after_is_heeded_as_a_date(teacher: FakeTeacher) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    teacher.answers_in_turn(refuses(503, "busy", Retry_After=soon), says(PAIR))
    client = Client(teacher.url)
    client.draft()
    assert 50 < client.waits[0] <= 60


def test_a_retry_after_that_is_no_time_is_ignored(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(refuses(429, "slow down", Retry_After="soon"), says(PAIR))
    client = Client(teacher.url)
    client.draft()
    assert client.waits == [1]


def test_a_wait_of_an_hour_is_left_to_the_user(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(refuses(429, "quota", Retry_After="3600"))
    said = Client(teacher.url).refusal()
    assert "answered 429: quota and asks to wait 3600 s; run the same command again to go on" in said


def test_lasting_trouble_ends_the_job(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(*[refuses(500, "out of memory")] * ATTEMPTS)
    assert "answered 500: out of memory, 5 times in a row" in Client(teacher.url).refusal()


def test_an_endpoint_that_is_not_there_is_named(teacher: FakeTeacher) -> None:
    url = "http://127.0.0.1:9/v1"
    said = Client(url).refusal()
    assert f"{url}/chat/completions gave no answer: " in said
    assert "see that it runs" in said


def test_a_refused_key_is_told_by_its_variable_and_never_shown(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(refuses(401, "wrong key: hush"))
    said = Client(teacher.url, "hush").refusal()
    assert "answered 401: wrong key: (the key); it was sent the key in $MY_KEY" in said


def test_a_missing_key_is_told_with_where_to_put_it(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(refuses(401, "no key"))
    assert "it was sent no key; put one in $MY_KEY" in Client(teacher.url).refusal()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (refuses(404, "no model"), "answered 404: no model; see that the URL ends with /v1 and that it has a model"),
        (Reply("", 301, {"Location": "https://other/v1"}), "points to 'https://other/v1'; name that URL"),
        (Reply("<html>Welcome</html>"), "answered no chat completion: expected JSON with choices, found '<html>Welc"),
        (Reply('{"choices": []}'), "answered no chat completion"),
        (Reply('{"choices": [{"message": "x"}]}'), "answered no chat completion"),
        (Reply("[" * 100_000), "answered no chat completion"),
        (Reply(b"\xff\xfe"), "answered no chat completion"),
        (Reply("no gzip at all", 200, {"Content-Encoding": "gzip"}), "gave no answer: Error -3"),
        (Reply("", 418), "answered 418; expected 200"),
    ],
)
def test_what_is_no_teacher_is_told_apart(teacher: FakeTeacher, reply: Reply, message: str) -> None:
    teacher.answer = lambda body: reply
    assert message in Client(teacher.url).refusal()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (refuses(400, "prompt too long"), "answered 400: prompt too long"),
        (says(None), "the teacher's answer is empty"),
        (says(""), "the teacher's answer is empty"),
        (says("I am sorry."), "expected a JSON list of questions and answers from the teacher, found 'I am sorry.'"),
    ],
)
def test_what_fails_for_one_passage_may_do_for_another(teacher: FakeTeacher, reply: Reply, message: str) -> None:
    teacher.answers_in_turn(reply)
    assert message in Client(teacher.url).refusal(UnusableAnswerError)


@pytest.mark.parametrize("setting", ["temperature", "max_tokens"])
def test_a_setting_that_the_model_refuses_is_sent_no_more(teacher: FakeTeacher, setting: str) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return refuses(400, f"Unsupported value: '{setting}'") if setting in body else says(PAIR)

    teacher.answer = answer
    assert Client(teacher.url).draft() == [DRAFT]
    assert [setting in body for body in teacher.bodies] == [True, False]


@pytest.mark.parametrize(
    ("reply", "supported"),
    [
        ("yes", True),
        ("Yes, it does.", True),
        ("**YES**", True),
        ("<think>no?</think>\nyes", True),
        ("no", False),
        ("Not quite: yes in part", False),
        ("maybe", False),
        ("yesterday", False),
    ],
)
def test_only_a_yes_supports_an_answer(teacher: FakeTeacher, reply: str, supported: bool) -> None:
    teacher.answers_in_turn(says(reply))
    assert Client(teacher.url).supports() is supported


def test_a_check_holds_passage_question_and_answer(teacher: FakeTeacher) -> None:
    teacher.answers_in_turn(says("yes"))
    Client(teacher.url).supports()
    prompt = teacher.bodies[0]["messages"][1]["content"]
    assert "<passage>\nTwenty days.\n</passage>\n\nQuestion: How many days?\nAnswer: Twenty." in prompt


@pytest.mark.parametrize(
    "content",
    [
        PAIR,
        f"Here you are:\n```json\n{PAIR}\n```\nEnjoy [1].",
        f"<think>maybe [{{]</think>{PAIR}",
        '{"questions": ' + PAIR + "}",
        '{"question": "How many days?", "answer": "Twenty."}',
        '[{"Question ": " How many days?", "ANSWER": "Twenty.\\n", "note": 1}]',
        PAIR[:-1] + ', {"question": "Cut o',
        '[{"question": "", "answer": "x"}, {"question": 7, "answer": "x"}, "x", null, ' + PAIR[1:],
        '[{"question": "\\ud83d", "answer": "x"}, ' + PAIR[1:],
    ],
)
def test_drafts_are_found_in_whatever_stands_around_them(content: str) -> None:
    assert parse_drafts(content) == [DRAFT]


@pytest.mark.parametrize("content", ["[]", "Nothing to ask: []", '{"questions": []}'])
def test_a_teacher_may_find_nothing_to_ask(content: str) -> None:
    assert parse_drafts(content) == []


@pytest.mark.parametrize("content", ["none", "<think>" + PAIR, '{"question": "Why?"}', "[" * 100_000, '[["x"]]'])
def test_a_reply_without_drafts_is_refused(content: str) -> None:
    with pytest.raises(UnusableAnswerError, match="expected a JSON list"):
        parse_drafts(content)
