"""The base that comes with the package is what its card says, for every tool of the ecosystem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from quintet.chat import ChatTranslator
from quintet.messages import Message
from quintet.models.base_model import NANO_FOLDER

TOKENIZER = AutoTokenizer.from_pretrained(NANO_FOLDER)


@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert TOKENIZER.decode(ids) == text


@given(st.from_regex(r"[0-9]{1,12}", fullmatch=True))
def test_digits_are_tokens_one_by_one(number: str) -> None:
    assert len(TOKENIZER(number, add_special_tokens=False)["input_ids"]) == len(number)


def test_plain_transformers_loads_it() -> None:
    model = AutoModelForCausalLM.from_pretrained(NANO_FOLDER)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert 8e6 <= round(model.num_parameters(), -5) <= 25e6
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.config.max_position_embeddings >= 1024


def test_its_weights_and_tokenizer_stay_small() -> None:
    assert sum(file.stat().st_size for file in NANO_FOLDER.iterdir()) < 40e6


@pytest.mark.parametrize("special", [token.content for token in TOKENIZER.added_tokens_decoder.values()])
def test_every_special_token_is_one_id(special: str) -> None:
    assert len(TOKENIZER(special, add_special_tokens=False)["input_ids"]) == 1


def test_its_template_is_chatml() -> None:
    ids = ChatTranslator(TOKENIZER).encode_prompt([Message("user", "Hi")])
    assert TOKENIZER.decode(ids) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
