"""Tokenizers of each kind, as llama.cpp reads them; one that it would read wrong is refused."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quintet.chat import ChatTranslator
from quintet.errors import ExportError
from quintet.export.formats import Dtype
from quintet.export.llama_cpp import write_gguf
from quintet.export.llama_cpp_vocabulary import SPLITTINGS, GGUFVocabulary, TokenType, read_vocabulary
from quintet.messages import Message
from tests.conftest import FACTS

TEXTS = [*FACTS, *FACTS.values(), "Pay day?", "leave the clinic", "naïve parking", "  two  spaces"]


def wrap(tokenizer: Tokenizer, **tokens: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **tokens)


def like_llama2(prefix: bool = True, scheme: str | None = None) -> PreTrainedTokenizerFast:
    """As TinyLlama's tokenizer.json is: BPE over SentencePiece's spaces, with a token for each byte.

    With a scheme, as transformers makes Llama's tokenizer anew.
    """
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    specials = [AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")]
    plain = [AddedToken(f"<0x{byte:02X}>", special=False) for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*specials, *plain], show_progress=False)
    # SentencePiece learns within words, and so must this: the same expression of words, but for training alone.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+"), "isolated")
    tokenizer.train_from_iterator([*FACTS, *FACTS.values()], trainer)
    values = json.loads(tokenizer.to_str()) | {"pre_tokenizer": None}
    if scheme is not None:
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
        values |= {"normalizer": None, "pre_tokenizer": metaspace}
    return wrap(Tokenizer.from_str(json.dumps(values)), unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def merged_as_llama_cpp_does(text: str, found: GGUFVocabulary) -> list[int]:
    """SentencePiece's merging, as llama.cpp does it: the pair whose token has the highest score first, then bytes."""
    ids = {token: id_ for id_, token in enumerate(found.tokens)}
    symbols = list(("▁" if found.has_space_prefix else "") + text.replace(" ", "▁"))
    while pairs := [
        (-found.scores[ids[pair]], place) for place, pair in enumerate(map("".join, pairwise(symbols))) if pair in ids
    ]:
        place = min(pairs)[1]
        symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
    return [
        id_
        for symbol in symbols
        for id_ in ([ids[symbol]] if symbol in ids else [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()])
    ]


def read_as_llama_cpp_does(text: str, found: GGUFVocabulary) -> list[int]:
    """Special tokens by themselves, and what is between them one by one."""
    ids = {token: id_ for id_, token in enumerate(found.tokens)}
    parts = re.split("(<s>|</s>)", text)
    return [id_ for part in parts if part
            for id_ in ([ids[part]] if part in ("<s>", "</s>") else merged_as_llama_cpp_does(part, found))]  # fmt: skip


TURNS = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
PROMPT = "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"


@pytest.mark.parametrize("template", [TURNS + PROMPT, "{{ bos_token }}" + TURNS + PROMPT])
@pytest.mark.parametrize("tokenizer", [like_llama2(), like_llama2(scheme="first"), like_llama2(scheme="always")])
def test_a_prompt_is_read_as_it_was_trained(tokenizer: Any, template: str, tmp_path: Path) -> None:
    tokenizer.chat_template = template
    translator = ChatTranslator(tokenizer)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_attention_heads=1)
    write_gguf(LlamaForCausalLM(config), translator, "spm", Dtype.FLOAT32, tmp_path / "spm.gguf")
    stored = GGUFReader(tmp_path / "spm.gguf").get_field("tokenizer.chat_template")
    assert stored is not None
    turns = [Message("system", "Be brief."), Message("user", "When is pay day?")]
    dicts = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = tokenizer.apply_chat_template(
        dicts, chat_template=stored.contents(), tokenize=False, add_generation_prompt=True
    )
    found = read_vocabulary(tokenizer, len(tokenizer))
    assert read_as_llama_cpp_does(text, found) == translator.encode_prompt(turns)


@pytest.mark.parametrize("prefix", [True, False])
def test_scores_merge_a_text_as_the_tokenizer_does(prefix: bool) -> None:
    tokenizer = like_llama2(prefix)
    found = read_vocabulary(tokenizer, len(tokenizer))
    assert found.has_space_prefix is prefix
    for text in TEXTS:
        assert merged_as_llama_cpp_does(text, found) == tokenizer.encode(text, add_special_tokens=False), text


def test_bytes_unknown_and_control_tokens_have_their_types() -> None:
    tokenizer = like_llama2()
    found = read_vocabulary(tokenizer, len(tokenizer) + 1)
    assert (found.model, found.splitting, found.merges) == ("llama", "default", [])
    assert found.types[:3] == [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    assert found.types[3:259] == [TokenType.BYTE] * 256
    assert found.types[259:-1] == [TokenType.NORMAL] * (len(tokenizer) - 259)
    # A row of the model that is no token.
    assert (found.tokens[-1], found.types[-1]) == (f"[PAD{len(tokenizer)}]", TokenType.UNUSED)


def test_an_added_word_is_the_users_own(tokenizer: PreTrainedTokenizerFast) -> None:
    own = wrap(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))
    own.add_tokens(["Wrenfield"])
    found = read_vocabulary(own, len(own))
    assert (found.tokens[-1], found.types[-1]) == ("Wrenfield", TokenType.USER_DEFINED)


def byte_level(*steps: Any, normalizer: Any = None, use_regex: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, last])
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return wrap(tokenizer)


@pytest.mark.parametrize(
    ("tokenizer", "splitting"),
    [
        (byte_level(), "gpt-2"),
        (byte_level(pre_tokenizers.Digits(individual_digits=True)), "smollm"),
        *((byte_level(pre_tokenizers.Split(Regex(expression), "isolated"), use_regex=False,
                      normalizer=normalizers.NFC()), name) for expression, name in SPLITTINGS.items()),
    ],
)  # fmt: skip
def test_how_a_text_is_split_goes_by_llama_cpps_name(tokenizer: Any, splitting: str) -> None:
    assert read_vocabulary(tokenizer, 3).splitting == splitting


@pytest.mark.parametrize(
    ("tokenizer", "size", "message"),
    [
        (byte_level(pre_tokenizers.Digits(individual_digits=False)), 3, "it splits a text by Digits, ByteLevel"),
        (byte_level(normalizer=normalizers.Lowercase()), 3, "it changes the text before it is split"),
        (wrap(Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))), 3, "its model is WordLevel"),
        (wrap(Tokenizer(models.BPE({"a": 0}, [], byte_fallback=True))), 3, "spaces do not become ▁"),
        (byte_level(), 2, "the tokenizer has 3 tokens and the model 2"),
    ],
)
def test_what_llama_cpp_would_read_wrong_is_refused(tokenizer: Any, size: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_vocabulary(tokenizer, size)
