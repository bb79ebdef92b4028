"""A teacher on a real socket, which asks one question about each passage unless a test tells it otherwise."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_endpoint import FakeEndpoint, Reply, prompt_of, says, serving


def passage_in(prompt: str) -> str:
    found = re.search(r"<passage>\n(.*)\n</passage>", prompt, re.DOTALL)
    assert found is not None
    return found[1]


def is_check(body: dict[str, Any]) -> bool:
    return "yes or no" in prompt_of(body)


def one_question(body: dict[str, Any]) -> Reply:
    """Ask one question about each passage, and find every answer supported."""
    passage = passage_in(prompt_of(body))
    return says("Yes." if is_check(body) else json.dumps([{"question": f"What of {passage}?", "answer": passage}]))


class FakeTeacher(FakeEndpoint):
    def __init__(self) -> None:
        super().__init__()
        self.answer = one_question

    @property
    def asked(self) -> list[str]:
        """The passages that questions were asked for, in the order of their text."""
        return sorted(passage_in(prompt_of(body)) for body in self.bodies if not is_check(body))


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTeacher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(FakeTeacher()) as fake:
        yield fake
