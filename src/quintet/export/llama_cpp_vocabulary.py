"""A fast tokenizer → the vocabulary as llama.cpp reads it: tokens, their types, and what is merged before what."""

import json
import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from quintet.errors import ExportError

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITTINGS = {_WORDS + r"\p{N}" + _REST: "qwen2", _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe"}
"""The expression by which a text is split before its bytes are merged → llama.cpp's name of it."""


class TokenType(IntEnum):
    """What a token is, by llama.cpp's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass
class GGUFVocabulary:
    """`model` and `splitting` are llama.cpp's names; byte-level BPE has merges, SentencePiece's kind has scores.

    `has_space_prefix` puts a space before a text and after every special token in it; `opens_with_space` before the
    text alone, which llama.cpp does not know.
    """

    model: str
    splitting: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    has_space_prefix: bool = False
    opens_with_space: bool = False


def read_vocabulary(tokenizer: Any, size: int) -> GGUFVocabulary:
    """Return the vocabulary of a model of so many tokens; raise ExportError for a tokenizer llama.cpp has none of."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = parts["model"]["type"]
    if kind != "BPE":
        raise _unknown(f"its model is {kind}")
    tokens, types = _tokens(tokenizer, size)
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in parts["model"]["merges"]]
    if parts["model"].get("byte_fallback"):
        types = [_sentencepiece_type(text, type_, tokenizer) for text, type_ in zip(tokens, types, strict=True)]
        # Where a space is put before a text: `always`, also after special tokens, `first` alone, or `never`.
        where, has_spaces = "never", False
        for step in _steps(parts["normalizer"], "normalizers") + _steps(parts["pre_tokenizer"], "pretokenizers"):
            match step:
                case {"type": "Prepend", "prepend": "\u2581"}:
                    where = "always"
                case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                    has_spaces = True
                case {"type": "Metaspace", "replacement": "\u2581", "split": False, "prepend_scheme": scheme}:
                    where, has_spaces = scheme, True
                case _:
                    raise _unknown(f"beside byte fallback it has {step['type']}")
        if not has_spaces:
            raise _unknown("it has byte fallback, and spaces do not become \u2581")
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(pairs):
            ranks.setdefault("".join(pair), rank)
        return GGUFVocabulary(
            "llama",
            "default",
            tokens,
            types,
            scores=[float(-ranks.get(token, len(pairs))) for token in tokens],
            has_space_prefix=where == "always",
            opens_with_space=where == "first",
        )
    return GGUFVocabulary("gpt2", _splitting(parts), tokens, types, [" ".join(pair) for pair in pairs])


def _tokens(tokenizer: Any, size: int) -> tuple[list[str], list[TokenType]]:
    texts = {id_: text for text, id_ in tokenizer.get_vocab().items()}
    if max(texts) >= size:
        raise ExportError(f"the tokenizer has {max(texts) + 1} tokens and the model {size}: they are not of one base")
    # A model may have more rows than there are tokens, to be a round number.
    types = [TokenType.NORMAL if id_ in texts else TokenType.UNUSED for id_ in range(size)]
    for id_, token in tokenizer.added_tokens_decoder.items():
        types[id_] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    return [texts.get(id_, f"[PAD{id_}]") for id_ in range(size)], types


def _sentencepiece_type(text: str, type_: TokenType, tokenizer: Any) -> TokenType:
    if text == tokenizer.unk_token:
        return TokenType.UNKNOWN
    return TokenType.BYTE if BYTE.fullmatch(text) else type_


def _splitting(parts: dict[str, Any]) -> str:
    """Return llama.cpp's name of how a text is split; a wrong one gives other tokens, so none is guessed."""
    if any(step["type"] != "NFC" for step in _steps(parts["normalizer"], "normalizers")):
        raise _unknown("it changes the text before it is split")
    steps = _steps(parts["pre_tokenizer"], "pretokenizers")
    match steps:
        case [{"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
        ]:
            return "smollm"
        case [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ] if expression in SPLITTINGS:
            return SPLITTINGS[expression]
    raise _unknown(f"it splits a text by {', '.join(step['type'] for step in steps) or 'nothing'}")


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part[inner]) if part["type"] == "Sequence" else [part]


def _unknown(what: str) -> ExportError:
    return ExportError(
        "GGUF is written for byte-level BPE split as by GPT-2, SmolLM, Qwen2 or Llama 3, and for SentencePiece's kind "
        f"with byte fallback; of this tokenizer, {what}; take --format merged, and convert that by llama.cpp's own "
        "convert_hf_to_gguf.py"
    )
