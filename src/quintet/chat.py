"""Messages ↔ token ids and the loss mask: the only translator, for training, evaluation and serving alike.

Knows nothing of files, departments or models; a tokenizer is all it holds.
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from quintet.errors import ModelError
from quintet.messages import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = Mapping[str, Any]
"""A turn, or a function, as chat templates want it."""

IGNORED = -100
FRAMES = 256
"""Sequences of roles whose frame is remembered: most conversations of a company are of one or two."""

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

    @property
    def prompt(self) -> list[int]:
        """The ids before the last answer: those that `encode_prompt` gives."""
        return self.ids[: self._answer_at]

    @property
    def answer(self) -> list[int]:
        """The ids of the last answer, its end of turn included."""
        return self.ids[self._answer_at :]

    @property
    def _answer_at(self) -> int:
        return len(self.labels) - next((n for n, label in enumerate(reversed(self.labels)) if label == IGNORED), 0)


class _Span(NamedTuple):
    """Characters [start, end) of the rendered text that are one message's content."""

    start: int
    end: int
    role: str


class _Rendered(NamedTuple):
    """A conversation as the template writes it, and where each message's content lies in it."""

    text: str
    spans: list[_Span]


class _Coded(NamedTuple):
    """Token ids, and where it was asked for the characters [start, end) of each."""

    ids: list[int]
    offsets: list[tuple[int, int]]


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
        self._frame = lru_cache(FRAMES)(self._make_frame)
        self._tail = lru_cache(FRAMES)(self._find_tail)
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        # Longest first, so that none is taken for its own beginning.
        self.specials = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
        self._first_letters = {special[0] for special in self.specials}
        mark = "\ue000"
        try:
            (text,) = self._apply([[Message("user", "Hi"), Message("assistant", mark)]], add_generation_prompt=False)
        except ModelError:
            text = ""
        rest = text.partition(mark)[2]
        space = rest[: len(rest) - len(rest.lstrip())]
        special = next((special for special in self.specials if rest.startswith(special, len(space))), None)
        self.ending: str = space + special if special else self.tokenizer.eos_token
        self._end: str = special or self.tokenizer.eos_token
        if not self.decode(self._code(["Hello there"], is_plain=True)[0].ids).strip():
            raise ModelError("the tokenizer turns every text into nothing; is its tokenizer.json missing?")

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids after which the assistant speaks."""
        return self._tokenise(self._render([messages], add_generation_prompt=True))[0].ids

    def encode_turns(self, turns: Sequence[Turn], tools: Sequence[Turn]) -> list[int]:
        """Return the ids after which the assistant speaks, where it may call functions.

        Raises ModelError when the template refuses, or when what it writes of the functions has a special token in it.
        """
        said = [turn for turn in turns if turn.get("content")]
        given = repr([tools, *({**turn, "content": None} for turn in turns)])
        if forged := next((special for special in self.specials if special in given), None):
            raise ModelError(f"the functions or their calls hold {forged!r}, which means something to the base")
        marked: list[Turn] = []
        marks: list[str] = []
        for turn in turns:
            marks += [_mark(len(marks))] if turn.get("content") else []
            marked.append({**turn, "content": marks[-1]} if turn.get("content") else turn)
        frame = _around(marks, self.write(marked, tools))
        messages = [Message(turn["role"], turn["content"]) for turn in said]
        rendered = _fit(self.write(turns, tools), messages, frame)
        if rendered is None:
            raise ModelError("the base's chat template changes or drops what is said, so it cannot be kept apart")
        return self._tokenise([rendered])[0].ids

    def write(self, turns: Sequence[Turn], tools: Sequence[Turn], *, add_generation_prompt: bool = True) -> str:
        """Return what the template makes of turns and functions; raise ModelError when it refuses them."""
        return self._write([list(turns)], add_generation_prompt, tools=list(tools) or None)[0]

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a text that no template is put around; special tokens may be written in it.

        It begins as the tokenizer begins a text, with one beginning-of-text token where it adds one.
        """
        backend, begins = self.tokenizer.backend_tokenizer, self.tokenizer.bos_token
        has_begun = begins is not None and text.startswith(begins)
        with self._turn:
            backend.no_truncation()
            backend.no_padding()
            return list(backend.encode(text, add_special_tokens=not has_begun).ids)

    def encode_example(self, messages: Sequence[Message]) -> Encoded:
        """Return ids and labels: what the assistant must say, with its end of turn, is trained, nothing else is.

        The ids up to the last answer are those that `encode_prompt` gives when serving, and the last id ends the turn.
        """
        return self.encode_examples([messages])[0]

    def encode_examples(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Return what `encode_example` gives for each conversation, several times faster than one by one."""
        texts = [
            _Rendered(text[: spans[-1].end] + self.ending, spans)
            for text, spans in self._render(conversations, add_generation_prompt=False)
        ]
        # Each answer's prompt, row by row: what a template adds after it is the assistant's to say.
        prompts = self._render(
            [m[:turn] for m in conversations for turn, message in enumerate(m) if message.role == "assistant"],
            add_generation_prompt=True,
        )
        counts = [sum(m.role == "assistant" for m in messages) for messages in conversations]
        left = iter(prompts)
        of_row = [list(islice(left, count)) for count in counts]
        # Where each token stands is asked only when it is needed to find the earlier answers: it takes long.
        coded = self._tokenise(texts, with_offsets=len(prompts) > len(texts))
        return [self._mask(text, c, before) for text, c, before in zip(texts, coded, of_row, strict=True)]

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[tuple[int, int]]:
        """Return how many ids each conversation has, and how many of them are trained."""
        encoded = self.encode_examples(conversations)
        return [(len(e.ids), len(e.labels) - e.labels.count(IGNORED)) for e in encoded]

    def decode(self, ids: Sequence[int], *, with_specials: bool = False) -> str:
        """Return the text of ids, without special tokens unless they are asked for."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not with_specials))

    def stream(self) -> "TextStream":
        """Return an incremental decoder for one answer."""
        return TextStream(self)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text that each id adds, special tokens as they are written; "" where a character goes on."""
        stream = TextStream(self, with_specials=True)
        pieces = [stream.push(id_) for id_ in ids]
        if pieces:
            pieces[-1] += stream.finish()
        return pieces

    def __reduce__(self) -> tuple[type["ChatTranslator"], tuple["PreTrainedTokenizerBase"]]:
        """Let a child process have it: what comes of the tokenizer is made there again."""
        return ChatTranslator, (self.tokenizer,)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end an answer: the template's end of turn first, and the tokenizer's end of text."""
        ends: Any = self.tokenizer.convert_tokens_to_ids([self._end, self.tokenizer.eos_token])
        return tuple(dict.fromkeys(ends))

    def _mask(self, text: _Rendered, coded: _Coded, prompts: list[_Rendered]) -> Encoded:
        """Return ids and labels of a conversation, given the rendered prompt of each answer."""
        spans = [span for span in text.spans if span.role == "assistant"]
        # Where the assistant must speak by itself: after the prompt, when the text goes on from there.
        starts = [
            min(span.start, len(p.text)) if text.text.startswith(p.text) else span.start
            for span, p in zip(spans, prompts, strict=True)
        ]
        answer = self._seam(text, coded, prompts[-1])
        if answer is None:
            return self._joined(prompts[-1], text.text[starts[-1] : spans[-1].end], len(spans))
        labels = [IGNORED] * answer + coded.ids[answer:]
        for span, start in zip(spans[:-1], starts[:-1], strict=True):
            end = span.end + (len(self.ending) if text.text.startswith(self.ending, span.end) else 0)
            first = bisect_right(coded.offsets, start, key=itemgetter(1))
            last = bisect_left(coded.offsets, end, key=itemgetter(0))
            labels[first:last] = coded.ids[first:last]
        return Encoded(coded.ids, labels)

    def _seam(self, text: _Rendered, coded: _Coded, prompt: _Rendered) -> int | None:
        """Return how many of the conversation's ids are its prompt's; None when the prompt alone has others.

        A special token keeps what stands before it and after it apart. So when the template writes one between the
        last question and the answer, only what follows it needs a second look, which is the same for every row.
        """
        special, tail = self._tail(prompt.text[prompt.spans[-1].end :])
        if tail and text.text.startswith(prompt.text):
            place = _nth(coded.ids, tail[0], prompt.text.count(special))
            if coded.ids[place : place + len(tail)] == tail:
                return place + len(tail)
        ids = self._tokenise([prompt])[0].ids
        return len(ids) if coded.ids[: len(ids)] == ids else None

    def _find_tail(self, written: str) -> tuple[str, list[int]]:
        """Return the last special token of what the template writes, and the ids from it on, or nothing."""
        place, special = max((written.rfind(special), special) for special in self.specials)
        return (special, self._code([written[place:]])[0].ids) if place >= 0 else ("", [])

    def _joined(self, prompt: _Rendered, answer: str, answers: int) -> Encoded:
        """Join the served prompt and the answer when their text would merge into one token at the seam."""
        if answers > 1:
            raise ModelError(
                "the base's chat template lets a prompt and its answer share a token, so conversations of several "
                "turns cannot be trained as they are served; use single questions, or a base with another template"
            )
        ids = self._tokenise([prompt])[0].ids
        rest = [*self._code([answer], is_plain=True)[0].ids, self.end_ids[0]]
        return Encoded(ids + rest, [IGNORED] * len(ids) + rest)

    def _render(self, conversations: Sequence[Sequence[Message]], add_generation_prompt: bool) -> list[_Rendered]:
        """Render the template, and say where in the text each message's content lies."""
        texts = self._apply(conversations, add_generation_prompt)
        return [
            self._locate(text, messages, add_generation_prompt)
            for text, messages in zip(texts, conversations, strict=True)
        ]

    def _locate(self, text: str, messages: Sequence[Message], add_generation_prompt: bool) -> _Rendered:
        roles = tuple(m.role for m in messages)
        if found := _fit(text, messages, self._frame(roles, add_generation_prompt)):
            return found
        # A template may write the date: what it wrote around yesterday's turns is forgotten.
        self._frame.cache_clear()
        if found := _fit(text, messages, self._frame(roles, add_generation_prompt)):
            return found
        raise ModelError(
            "the chat template changes or drops what is said, so it cannot be told which tokens to train; "
            f"roles were: {', '.join(roles)}"
        )

    def _make_frame(self, roles: tuple[str, ...], add_generation_prompt: bool) -> tuple[str, ...]:
        """Return what the template writes around the contents of such turns, itself: one piece more than turns.

        Fewer when it leaves a turn out. Found by rendering with marks in the contents' place.
        """
        marks = [_mark(number) for number in range(len(roles))]
        marked = [Message(role, mark) for role, mark in zip(roles, marks, strict=True)]
        return _around(marks, self._apply([marked], add_generation_prompt)[0])

    def _apply(self, conversations: Sequence[Sequence[Message]], add_generation_prompt: bool) -> list[str]:
        return self._write([[m.as_dict() for m in messages] for messages in conversations], add_generation_prompt)

    def _write(
        self, conversations: list[list[Any]], add_generation_prompt: bool, tools: list[Any] | None = None
    ) -> list[str]:
        from jinja2 import TemplateError

        if not conversations:
            return []
        try:
            rendered = self.tokenizer.apply_chat_template(
                conversations, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise ModelError(f"the base's chat template refuses these turns: {error}") from error
        return list(map(str, rendered))

    def _tokenise(self, texts: Sequence[_Rendered], *, with_offsets: bool = False) -> list[_Coded]:
        """Tokenise; a special token that stands inside somebody's content becomes the plain text it looks like."""
        forged = [self._forges(text) for text in texts]
        honest = [text.text for text, is_forged in zip(texts, forged, strict=True) if not is_forged]
        plain = iter(self._code(honest, with_offsets=with_offsets))
        return [
            self._tokenise_pieces(text) if is_forged else next(plain)
            for text, is_forged in zip(texts, forged, strict=True)
        ]

    def _forges(self, text: _Rendered) -> bool:
        contents = [text.text[s.start : s.end] for s in text.spans]
        suspects = [content for content in contents if any(letter in content for letter in self._first_letters)]
        return any(special in content for special in self.specials for content in suspects)

    def _tokenise_pieces(self, text: _Rendered) -> _Coded:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end, is_content in _pieces(text.spans, len(text.text)):
            (coded,) = self._code([text.text[start:end]], is_plain=is_content, with_offsets=True)
            ids += coded.ids
            offsets += [(start + a, start + b) for a, b in coded.offsets]
        return _Coded(ids, offsets)

    def _code(self, texts: list[str], *, is_plain: bool = False, with_offsets: bool = False) -> list[_Coded]:
        # Asked directly: what transformers does around it takes as long as the tokenizing itself.
        backend = self.tokenizer.backend_tokenizer
        encode = backend.encode_batch if with_offsets else backend.encode_batch_fast
        with self._turn:
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = is_plain
            coded = encode(texts, add_special_tokens=False)
            backend.encode_special_tokens = False
        return [_Coded(row.ids, row.offsets if with_offsets else []) for row in coded]


class TextStream:
    """Turns ids into text piece by piece, holding back characters that are not complete yet.

    Each piece is decoded together with the one before it, since some tokenizers write a word's leading space only
    when something stands in front; the whole answer need not be decoded again for every token.
    """

    def __init__(self, translator: ChatTranslator, *, with_specials: bool = False) -> None:
        self._translator = translator
        self._with_specials = with_specials
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
        known = self._translator.decode(self._before, with_specials=self._with_specials)
        return self._translator.decode(self._before + self._ids, with_specials=self._with_specials)[len(known) :]


def _mark(number: int) -> str:
    return f"\ue000{number}\ue001"


def _around(marks: Sequence[str], rest: str) -> tuple[str, ...]:
    """Return what stands around marks in a text, or nothing when one is missing."""
    pieces = []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            return ()
        pieces.append(before)
    return (*pieces, rest)


def _nth(ids: list[int], id_: int, count: int) -> int:
    """Return the place of the id's occurrence number `count`, from 1; the length when there are fewer."""
    place = -1
    try:
        for _ in range(count):
            place = ids.index(id_, place + 1)
    except ValueError:
        return len(ids)
    return place


def _fit(text: str, messages: Sequence[Message], frame: tuple[str, ...]) -> _Rendered | None:
    """Return where the contents stand in the text, as they are or stripped; None when the frame does not give it."""
    if len(frame) != len(messages) + 1:
        return None
    # Ends of the contents placed so far, by where the last one ends: more than one only where a frame begins with the
    # very white space that may have been stripped.
    ways: dict[int, list[tuple[int, int]]] = {0: []}
    for piece, message in zip(frame, messages, strict=False):
        ways = {
            start + len(content): [*placed, (start, start + len(content))]
            for at, placed in ways.items()
            if text.startswith(piece, at)
            for content in _as_written(message.content)
            if text.startswith(content, start := at + len(piece))
        }
    found = ways.get(len(text) - len(frame[-1])) if text.endswith(frame[-1]) else None
    if found is None:
        return None
    return _Rendered(text, [_Span(*place, message.role) for place, message in zip(found, messages, strict=True)])


def _as_written(content: str) -> set[str]:
    """Return the forms in which templates write a content: as it is, or without white space at its ends."""
    if content[:1].isspace() or content[-1:].isspace():
        return {content, content.strip(), content.lstrip(), content.rstrip()}
    return {content}


def _pieces(spans: list[_Span], length: int) -> Iterator[tuple[int, int, bool]]:
    at = 0
    for span in spans:
        yield at, span.start, False
        yield span.start, span.end, True
        at = span.end
    yield at, length, False
