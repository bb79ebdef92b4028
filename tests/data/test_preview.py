from pathlib import Path

from quintet.chat import ChatTranslator
from quintet.data.examples import Example, Place
from quintet.data.preview import Preview, preview
from quintet.data.preview_page import preview_page
from quintet.messages import Message
from tests.conftest import make_tokenizer

TRANSLATOR = ChatTranslator(make_tokenizer())


def example(answer: str = "So.", rejected: str | None = None) -> Example:
    return Example((Message("user", "Why?"), Message("assistant", answer)), "g", Place(Path("hr.jsonl"), 7), rejected)


def trained(one: Preview) -> str:
    return "".join(token.text for token in one.tokens if token.trained)


def test_the_tokens_spell_the_conversation_and_tell_what_is_trained() -> None:
    (one,) = preview(example(), TRANSLATOR)
    text = "".join(token.text for token in one.tokens)
    assert text == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>"
    assert trained(one) == "So.<|im_end|>"
    assert one.trained == len(TRANSLATOR.tokenizer("So.<|im_end|>", add_special_tokens=False)["input_ids"])
    assert one.title == f"hr.jsonl:7: {len(one.tokens)} tokens, {one.trained} of them trained"


def test_the_ids_are_those_of_training() -> None:
    (one,) = preview(example(), TRANSLATOR)
    assert [token.id for token in one.tokens] == TRANSLATOR.encode_example(example().messages).ids


def test_a_character_of_several_tokens_stands_in_the_last_of_them() -> None:
    (one,) = preview(example("Ça coûte 5 €"), TRANSLATOR)
    assert trained(one) == "Ça coûte 5 €<|im_end|>"
    assert "" in [token.text for token in one.tokens]


def test_a_preference_shows_both_answers() -> None:
    chosen, rejected = preview(example("So.", rejected="No."), TRANSLATOR)
    assert (chosen.answer, trained(chosen)) == ("chosen", "So.<|im_end|>")
    assert (rejected.answer, trained(rejected)) == ("rejected", "No.<|im_end|>")


def test_the_page_marks_trained_tokens_and_never_runs_what_a_row_says() -> None:
    page = preview_page("hr & co", preview(example("<script>alert(1)</script>"), TRANSLATOR))
    assert "<title>hr &amp; co</title>" in page
    assert "<script" not in page
    assert page.count("class=trained") == preview(example("<script>alert(1)</script>"), TRANSLATOR)[0].trained
    assert "http" not in page
