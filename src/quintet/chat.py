"""Messages ↔ token ids and the loss mask: the only translator, for training, evaluation and serving alike.

Knows nothing of files, departments or models; a tokenizer is all it holds.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quintet.data.loading import Message
from quintet.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100

# For a base that brings no template of its own: plain turns, so that no token has to be added to its vocabulary.
DEFAULT_TEMPLATE = (
    "{{- bos_token or '' -}}"
    "{%- for message in messages -%}"
    "{{- '### ' + message['role'] + '\\n' + message['content'] + eos_token + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### assistant\\n' -}}{%- endif -%}"
)


@dataclass(frozen=True)
class Encoded:
    """A conversation as the model sees it; `labels` repeats `ids` where trained and is IGNORED elsewhere."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class _Span:
    """Characters [start, end) of the rendered text that are one message's content."""

    start: int
    end: int
    role: str


class ChatTranslator:
    """Turns messages into ids and ids into text by the tokenizer's own chat template."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer has no fast version, which is needed to tell turns apart by offsets")
        if tokenizer.eos_token is None:
            raise ModelError("the tokenizer names no eos_token, so an answer could never end; set one")
        if tokenizer.chat_template is None:
            tokenizer.chat_template = DEFAULT_TEMPLATE
        self.tokenizer = tokenizer
        # A fast tokenizer switches modes while it works (`split_special_tokens`): threads must take turns.
        self._turn = threading.Lock()
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._specials = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
        self._end = self._find_end_of_turn()
        if not self.decode(self._code("Hello there", is_plain=True)[0]).strip():
            raise ModelError("the tokenizer turns every text into nothing; is its tokenizer.json missing?")

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids after which the assistant speaks."""
        text, spans = self._render(messages, add_generation_prompt=True)
        return self._tokenise(text, spans)[0]

    def encode_example(self, messages: Sequence[Message]) -> Encoded:
        """Return ids and labels: what the assistant must say, with its end of turn, is trained, nothing else is.

        The ids up to the last answer are those that `encode_prompt` gives when serving, and the last id ends the turn.
        """
        text, spans = self._render(messages, add_generation_prompt=False)
        text = text[: spans[-1].end] + self._end
        answers = [
            (self._answer_start(messages[:turn], text, span.start), span.end + self._end_length(text, span.end))
            for turn, span in enumerate(spans)
            if span.role == "assistant"
        ]
        ids, offsets = self._tokenise(text, spans)
        prompt = self.encode_prompt(messages[:-1])
        if ids[: len(prompt)] != prompt:
            return self._joined(prompt, text[answers[-1][0] : spans[-1].end], len(answers))
        labels = [
            id_ if start < stop and any(start < last and first < stop for first, last in answers) else IGNORED
            for id_, (start, stop) in zip(ids, offsets, strict=True)
        ]
        return Encoded(ids, labels)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def stream(self) -> "TextStream":
        """Return an incremental decoder for one answer."""
        return TextStream(self)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end an answer: the template's end of turn first, and the tokenizer's end of text."""
        ends: Any = self.tokenizer.convert_tokens_to_ids([self._end, self.tokenizer.eos_token])
        return tuple(dict.fromkeys(ends))

    def _find_end_of_turn(self) -> str:
        """Return the special token that the template writes after an answer; without one, the end of text is used."""
        mark = "\ue000"
        try:
            text = self._apply([Message("user", "Hi"), Message("assistant", mark)], add_generation_prompt=False)
        except ModelError:
            text = ""
        rest = text.partition(mark)[2]
        return next((special for special in self._specials if rest.startswith(special)), self.tokenizer.eos_token)

    def _end_length(self, text: str, at: int) -> int:
        return len(self._end) if text.startswith(self._end, at) else 0

    def _answer_start(self, before: Sequence[Message], text: str, content: int) -> int:
        """Return where the assistant must speak by itself: what a template adds after the prompt is its to say."""
        prompt = self._apply(before, add_generation_prompt=True)
        return min(content, len(prompt)) if text.startswith(prompt) else content

    def _joined(self, prompt: list[int], answer: str, answers: int) -> Encoded:
        """Join the served prompt and the answer when their text would merge into one token at the seam."""
        if answers > 1:
            raise ModelError(
                "the base's chat template lets a prompt and its answer share a token, so conversations of several "
                "turns cannot be trained as they are served; use single questions, or a base with another template"
            )
        rest = [*self._code(answer, is_plain=True)[0], self.end_ids[0]]
        return Encoded(prompt + rest, [IGNORED] * len(prompt) + rest)

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> tuple[str, list[_Span]]:
        """Render the template, and say where in the text each message's content lies.

        The contents are found by rendering once with marks in their place: what stands between the marks is the
        template's own.
        """
        marks = [f"\ue000{number}\ue001" for number in range(len(messages))]
        marked = [Message(message.role, mark) for message, mark in zip(messages, marks, strict=True)]
        frame = self._apply(marked, add_generation_prompt)
        text = self._apply(messages, add_generation_prompt)
        for contents in ([m.content for m in messages], [m.content.strip() for m in messages]):
            built, spans, rest = "", [], frame
            for message, mark, content in zip(messages, marks, contents, strict=True):
                before, found, rest = rest.partition(mark)
                if not found:
                    break  # the template left this turn out
                built += before + content
                spans.append(_Span(len(built) - len(content), len(built), message.role))
            if built + rest == text and len(spans) == len(messages):
                return text, spans
        raise ModelError(
            "the chat template changes or drops what is said, so it cannot be told which tokens to train; "
            f"roles were: {', '.join(m.role for m in messages)}"
        )

    def _apply(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            rendered = self.tokenizer.apply_chat_template(
                [m.as_dict() for m in messages], tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise ModelError(f"the base's chat template refuses these turns: {error}") from error
        return str(rendered)

    def _tokenise(self, text: str, spans: list[_Span]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokenise; a special token that stands inside somebody's content becomes the plain text it looks like."""
        contents = [text[s.start : s.end] for s in spans]
        if not any(special in content for special in self._specials for content in contents):
            return self._code(text, is_plain=False)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end, is_content in _pieces(spans, len(text)):
            new, places = self._code(text[start:end], is_plain=is_content)
            ids += new
            offsets += [(start + a, start + b) for a, b in places]
        return ids, offsets

    def _code(self, text: str, *, is_plain: bool) -> tuple[list[int], list[tuple[int, int]]]:
        with self._turn:
            coded = self.tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=is_plain
            )
        return list(coded["input_ids"]), list(coded["offset_mapping"])


class TextStream:
    """Turns ids into text piece by piece, holding back characters that are not complete yet.

    Each piece is decoded together with the one before it, since some tokenizers write a word's leading space only
    when something stands in front; the whole answer need not be decoded again for every token.
    """

    def __init__(self, translator: ChatTranslator) -> None:
        self._translator = translator
        self._before: list[int] = []
        self._ids: list[int] = []

    def push(self, id_: int) -> str:
        """Add one id and return the text that is certain now."""
        self._ids.append(id_)
        text = self._new_text()
        if not text or text.endswith("\ufffd"):
            return ""
        self._before, self._ids = self._ids, []
        return text

    def finish(self) -> str:
        """Return what is left."""
        return self._new_text()

    def _new_text(self) -> str:
        known = self._translator.decode(self._before)
        return self._translator.decode(self._before + self._ids)[len(known) :]


def _pieces(spans: list[_Span], length: int) -> Iterator[tuple[int, int, bool]]:
    at = 0
    for span in spans:
        yield at, span.start, False
        yield span.start, span.end, True
        at = span.end
    yield at, length, False
