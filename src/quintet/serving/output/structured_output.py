"""Structured output: a JSON schema to the tokens that may come next."""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from quintet.chat import ChatTranslator
from quintet.engine.interface import LogitMask
from quintet.errors import RequestError

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Where more is allowed, a small model spends most of its tokens on white space.
JSON_OPTIONS: Any = {"whitespace_pattern": " "}
ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class Grammar:
    """What answers must be, ready to be followed; `name` is a digest of it."""

    name: str
    _matcher: "LLMatcher"

    def mask(self) -> LogitMask:
        """Return what one answer must obey."""
        return _Mask(self._matcher.deep_copy())


class Vocabulary:
    """What the ids of a tokenizer stand for, as bytes: an id may be a part of a character."""

    def __init__(self, translator: ChatTranslator) -> None:
        from llguidance.hf import from_tokenizer

        self._tokenizer = from_tokenizer(translator.tokenizer, eos_token=list(translator.end_ids))  # type: ignore[arg-type]
        self.size = int(self._tokenizer.vocab_size)

    def bytes_of(self, id_: int) -> bytes:
        """Return what an id adds to a text; nothing for one that the tokenizer does not know."""
        return self._tokenizer.decode_bytes([id_]) if id_ < self.size else b""

    def obeying_schema(self, schema: dict[str, Any], field: str) -> Grammar:
        """Return the grammar of JSON of a schema; raise RequestError, naming `field`, where it cannot be compiled."""
        from llguidance import LLMatcher

        try:
            return self._obeying(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=JSON_OPTIONS))
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{field}: the schema cannot be used: {_first_line(error)}", param=field) from error

    def obeying_grammar(self, lark: str, field: str) -> Grammar:
        """Return a grammar that is written for Lark; raise RequestError, naming `field`."""
        from llguidance import LLMatcher

        try:
            return self._obeying(LLMatcher.grammar_from_lark(lark))
        except ValueError as error:
            raise RequestError(f"{field}: cannot be used: {_first_line(error)}", param=field) from error

    def _obeying(self, grammar: str) -> Grammar:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return Grammar(hashlib.sha256(grammar.encode()).hexdigest(), matcher)


class _Mask:
    """Follows one answer, and says what may come next."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self._matcher = matcher
        self._followed = 0

    def __call__(self, generated: tuple[int, ...]) -> Any:
        """Return a boolean array over the vocabulary; raise RequestError where following takes too much."""
        import numpy as np

        self._matcher.consume_tokens(list(generated[self._followed :]))
        self._followed = len(generated)
        bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            reason = _first_line(self._matcher.get_error())
            raise RequestError(f"the answer cannot be held to its schema ({reason}); use a simpler schema")
        return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little").astype(bool)


_vocabularies: WeakKeyDictionary[ChatTranslator, Vocabulary] = WeakKeyDictionary()


def vocabulary_of(translator: ChatTranslator) -> Vocabulary:
    """Return the vocabulary of a translator, made once: a large one takes a second."""
    if translator not in _vocabularies:
        _vocabularies[translator] = Vocabulary(translator)
    return _vocabularies[translator]


def _first_line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason is given")
