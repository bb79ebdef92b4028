from pathlib import Path

import pytest

from quintet.chat import ChatTranslator
from quintet.config import TooLong
from quintet.data.examples import Example, Place
from quintet.data.fitting import Fitted, Fitter
from quintet.errors import DataError
from quintet.messages import Message
from tests.conftest import make_tokenizer

TRANSLATOR = ChatTranslator(make_tokenizer())


def conversation(*contents: str, system: str | None = None) -> Example:
    turns = [Message(("user", "assistant")[n % 2], content) for n, content in enumerate(contents)]
    before = [] if system is None else [Message("system", system)]
    return Example((*before, *turns), "g", Place(Path("hr.jsonl"), 7))


def length(example: Example) -> int:
    return len(TRANSLATOR.encode_example(example.messages).ids)


def fit(example: Example, context: int, policy: TooLong) -> Fitted:
    return Fitter(TRANSLATOR, context, policy).fit_all([example])


def test_a_row_that_fits_is_left_as_it_is() -> None:
    example = conversation("Why?", "So.")
    assert fit(example, length(example), "refuse").examples == [example]


def test_a_row_one_token_too_long_is_refused_with_both_numbers_and_the_ways_out() -> None:
    example = conversation("Why?", "So.")
    tokens = length(example)
    with pytest.raises(DataError) as caught:
        fit(example, tokens - 1, "refuse")
    assert str(caught.value).startswith(
        f"hr.jsonl:7: the row has {tokens} tokens, the base's context holds {tokens - 1}"
    )
    assert "too_long: truncate" in str(caught.value)


def test_truncating_cuts_as_little_of_the_question_as_it_must_and_nothing_of_the_answer() -> None:
    example = conversation("How many days? " * 20, "You get 26 days.")
    (cut,) = fit(example, 60, "truncate").examples
    assert example.question.startswith(cut.question)
    assert cut.answer == example.answer
    one_more = conversation(example.question[: len(cut.question) + 1], example.answer)
    assert length(cut) <= 60 < length(one_more)


def test_an_answer_that_does_not_fit_is_refused_rather_than_cut() -> None:
    with pytest.raises(DataError, match="even without its question the answer is too long"):
        fit(conversation("Why?", "You get 26 days. " * 30), 60, "truncate")


def test_splitting_cuts_between_turns_and_keeps_the_system_turn_with_each_part() -> None:
    example = conversation(*(f"{role} number {n}" for n in range(6) for role in "qa"), system="Be kind.")
    whole, context = length(example), length(example) // 2
    fitted = fit(example, context, "split")
    assert len(fitted.examples) > 1
    assert all(length(part) <= context for part in fitted.examples)
    assert all(part.messages[0] == Message("system", "Be kind.") for part in fitted.examples)
    assert sum((part.messages[1:] for part in fitted.examples), ()) == example.messages[1:]
    assert fitted.parted == [(example.place, whole)]


def test_a_single_exchange_cannot_be_split() -> None:
    with pytest.raises(DataError, match="a single question and answer cannot be split"):
        fit(conversation("How many days? " * 20, "26."), 60, "split")


def test_what_was_done_is_told_in_words() -> None:
    assert fit(conversation("How many days? " * 20, "26."), 60, "truncate").notes == [
        "1 rows had their question cut to fit the context, the first at hr.jsonl:7"
    ]
