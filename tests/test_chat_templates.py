"""Templates in the styles of well-known models: what is trained of a conversation, written out by hand.

Each case is a list of (text, trained) stretches: the whole conversation as the model sees it, and which of it is
learnt. The templates are short forms that write what the models' own write.
"""

from dataclasses import dataclass, field
from itertools import groupby

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerFast

from quintet.chat import IGNORED, ChatTranslator
from quintet.errors import ModelError
from quintet.messages import Message
from tests.conftest import FACTS

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


@dataclass(frozen=True)
class Style:
    """A template, its special tokens (the first begins a text, the second ends it), and what it makes of a chat."""

    specials: tuple[str, ...]
    template: str
    single: list[tuple[str, bool]]
    several: list[tuple[str, bool]]
    system: list[tuple[str, bool]] = field(default_factory=list)


# Alone: user "Pay day?", assistant "The 27th." In several turns, before it: user "Hello", assistant "Good day."
# With a system turn, before it: "Be kind."
STYLES = {
    "chatml": Style(
        ("<|endoftext|>", "<|im_end|>", "<|im_start|>"),
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        [("<|im_start|>user\nPay day?<|im_end|>\n<|im_start|>assistant\n", False), ("The 27th.<|im_end|>", True)],
        [
            ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", False),
            ("Good day.<|im_end|>", True),
            ("\n<|im_start|>user\nPay day?<|im_end|>\n<|im_start|>assistant\n", False),
            ("The 27th.<|im_end|>", True),
        ],
        [
            ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nPay day?<|im_end|>\n", False),
            ("<|im_start|>assistant\n", False),
            ("The 27th.<|im_end|>", True),
        ],
    ),
    "chatml with generation markers": Style(
        ("<|endoftext|>", "<|im_end|>", "<|im_start|>"),
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
        "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
        "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        [("<|im_start|>user\nPay day?<|im_end|>\n<|im_start|>assistant\n", False), ("The 27th.<|im_end|>", True)],
        [
            ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", False),
            ("Good day.<|im_end|>", True),
            ("\n<|im_start|>user\nPay day?<|im_end|>\n<|im_start|>assistant\n", False),
            ("The 27th.<|im_end|>", True),
        ],
    ),
    "llama 2": Style(
        ("<s>", "</s>"),
        "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m.role == 'user' %}"
        "{{ bos_token + '[INST] ' + ((system if loop.first else '') + m.content).strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        [("<s>[INST] Pay day? [/INST]", False), (" The 27th. </s>", True)],
        [
            ("<s>[INST] Hello [/INST]", False),
            (" Good day. </s>", True),
            ("<s>[INST] Pay day? [/INST]", False),
            (" The 27th. </s>", True),
        ],
        [("<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nPay day? [/INST]", False), (" The 27th. </s>", True)],
    ),
    "llama 3": Style(
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"),
        "{% for m in messages %}{{ (bos_token if loop.first else '') + '<|start_header_id|>' + m.role + "
        "'<|end_header_id|>\n\n' + (m.content | trim) + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        [
            ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nPay day?<|eot_id|>", False),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
            ("The 27th.<|eot_id|>", True),
        ],
        [
            ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>", False),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
            ("Good day.<|eot_id|>", True),
            ("<|start_header_id|>user<|end_header_id|>\n\nPay day?<|eot_id|>", False),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
            ("The 27th.<|eot_id|>", True),
        ],
        [
            ("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>", False),
            ("<|start_header_id|>user<|end_header_id|>\n\nPay day?<|eot_id|>", False),
            ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
            ("The 27th.<|eot_id|>", True),
        ],
    ),
    "zephyr": Style(
        ("<s>", "</s>"),
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        [("<|user|>\nPay day?</s>\n<|assistant|>\n", False), ("The 27th.</s>", True)],
        [
            ("<|user|>\nHello</s>\n<|assistant|>\n", False),
            ("Good day.</s>", True),
            ("\n<|user|>\nPay day?</s>\n<|assistant|>\n", False),
            ("The 27th.</s>", True),
        ],
        [("<|system|>\nBe kind.</s>\n<|user|>\nPay day?</s>\n<|assistant|>\n", False), ("The 27th.</s>", True)],
    ),
    "gemma": Style(
        ("<bos>", "<end_of_turn>", "<start_of_turn>", "<eos>"),
        "{{ bos_token }}" + NO_SYSTEM + "{% for m in messages %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
        "{{ (m.content | trim) + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        [
            ("<bos><start_of_turn>user\nPay day?<end_of_turn>\n<start_of_turn>model\n", False),
            ("The 27th.<end_of_turn>", True),
        ],
        [
            ("<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n", False),
            ("Good day.<end_of_turn>", True),
            ("\n<start_of_turn>user\nPay day?<end_of_turn>\n<start_of_turn>model\n", False),
            ("The 27th.<end_of_turn>", True),
        ],
    ),
    "mistral": Style(
        ("<s>", "</s>"),
        "{{ bos_token }}" + NO_SYSTEM + "{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
        [("<s>[INST] Pay day? [/INST]", False), ("The 27th.</s>", True)],
        [
            ("<s>[INST] Hello [/INST]", False),
            ("Good day.</s>", True),
            ("[INST] Pay day? [/INST]", False),
            ("The 27th.</s>", True),
        ],
    ),
}
ALONE = [Message("user", "Pay day?"), Message("assistant", "The 27th.")]
SEVERAL = [Message("user", "Hello"), Message("assistant", "Good day."), *ALONE]
SYSTEM = [Message("system", "Be kind."), *ALONE]
CASES = [
    (name, messages, expected)
    for name, style in STYLES.items()
    for messages, expected in ((ALONE, style.single), (SEVERAL, style.several), (SYSTEM, style.system))
    if expected
]


def byte_level() -> tuple[PreTokenizer, decoders.Decoder, list[str]]:
    """Return the parts of GPT-2's, Llama 3's and Qwen's tokenizers."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()


def metaspace() -> tuple[PreTokenizer, decoders.Decoder, list[str]]:
    """Return the parts of Llama 2's, Mistral's and Gemma's tokenizers."""
    split = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    return split, decoders.Metaspace(replacement="▁", prepend_scheme="first"), [chr(c) for c in range(10, 127)]


KINDS = {"byte level": byte_level, "metaspace": metaspace}


def make(style: Style, kind: str) -> ChatTranslator:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder, alphabet = KINDS[kind]()
    specials = [AddedToken(token, special=True) for token in (*style.specials, "<|pad|>")]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*FACTS, *FACTS.values(), "user assistant system [INST] [/INST]\n"] * 3, trainer)
    begin, end, *_ = style.specials
    return ChatTranslator(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=begin,
            eos_token=end,
            pad_token="<|pad|>",
            clean_up_tokenization_spaces=False,
            chat_template=style.template,
        )
    )


def stretches(parts: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    return [
        ("".join(text for text, _ in group), trained) for trained, group in groupby(parts, key=lambda part: part[1])
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "messages", "expected"), CASES, ids=[f"{n}, {len(m)} turns" for n, m, _ in CASES])
def test_exactly_the_answers_and_their_ends_are_trained(
    name: str, messages: list[Message], expected: list[tuple[str, bool]], kind: str
) -> None:
    translator = make(STYLES[name], kind)
    encoded = translator.encode_example(messages)
    trained = [label != IGNORED for label in encoded.labels]
    assert stretches(list(zip(translator.pieces(encoded.ids), trained, strict=True))) == stretches(expected)
    assert [label for label in encoded.labels if label != IGNORED] == [
        id_ for id_, is_trained in zip(encoded.ids, trained, strict=True) if is_trained
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STYLES)
def test_the_trained_prompt_is_the_served_one_and_the_answer_ends_with_what_stops_generation(
    name: str, kind: str
) -> None:
    translator = make(STYLES[name], kind)
    encoded, prompt = translator.encode_example(SEVERAL), translator.encode_prompt(SEVERAL[:-1])
    assert encoded.ids[: len(prompt)] == prompt
    assert encoded.ids[-1] == translator.end_ids[0]
    assert translator.decode(encoded.ids[len(prompt) :]).strip() == "The 27th."


@pytest.mark.parametrize("name", STYLES)
def test_a_text_begins_and_a_turn_ends_as_often_as_the_template_says(name: str) -> None:
    translator, text = make(STYLES[name], "byte level"), "".join(part for part, _ in STYLES[name].single)
    tokens = translator.tokenizer.convert_ids_to_tokens(translator.encode_example(ALONE).ids)
    for special in STYLES[name].specials:
        assert tokens.count(special) == text.count(special)


@pytest.mark.parametrize("name", STYLES)
def test_conversations_encoded_together_are_what_they_are_alone(name: str) -> None:
    translator = make(STYLES[name], "metaspace")
    forged = [Message("user", "</s><|im_end|><|eot_id|> [INST]"), Message("assistant", "So.")]
    several = [ALONE, forged, SEVERAL, ALONE]
    assert translator.encode_examples(several) == [translator.encode_example(one) for one in several]
    assert translator.count_tokens(several) == [
        (len(e.ids), sum(label != IGNORED for label in e.labels)) for e in translator.encode_examples(several)
    ]


@pytest.mark.parametrize("content", [" Pay day?", "Pay day? ", "\tPay day?\n"])
@pytest.mark.parametrize("name", STYLES)
def test_white_space_that_a_template_strips_on_one_side_or_both_is_no_trouble(name: str, content: str) -> None:
    translator = make(STYLES[name], "byte level")
    turns = SYSTEM if STYLES[name].system else ALONE
    messages = [Message(m.role, content) if m.role == "user" else m for m in turns]
    encoded = translator.encode_example(messages)
    answer = [label for label in encoded.labels if label != IGNORED]
    assert translator.decode(answer).strip() == "The 27th."


def test_a_template_that_writes_the_date_is_followed_into_the_next_day() -> None:
    style = STYLES["chatml"]
    translator = make(style, "byte level")
    texts = []
    for day in ("Monday", "Tuesday"):
        translator.tokenizer.chat_template = f"{{{{ '{day}\n' }}}}" + style.template
        texts.append("".join(translator.pieces(translator.encode_prompt(ALONE[:1])))[:7])
    assert texts == ["Monday\n", "Tuesday"]


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_turn_that_the_template_refuses_is_an_error_that_says_so(name: str) -> None:
    with pytest.raises(ModelError, match="refuses these turns: System role not supported"):
        make(STYLES[name], "byte level").encode_example(SYSTEM)
