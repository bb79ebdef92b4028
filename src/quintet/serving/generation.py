"""Prompts and sampling → an answer of the engine, piece by piece, of one choice or several. Knows nothing of HTTP.

Nor does it know where experts lie.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from quintet.engine.interface import Engine, Request, Sampling, Token
from quintet.errors import ModelError, RequestError
from quintet.messages import Message
from quintet.serving.answer import Answer, Answerer, Call, Ended, Piece, SaidToken, as_they_come
from quintet.serving.catalog import Model
from quintet.serving.quota import Generate, charged_together
from quintet.serving.request_record import note_answer, note_question
from quintet.serving.stop_strings import StopStrings
from quintet.serving.structured_output import Grammar, Vocabulary
from quintet.serving.tool_calls import CallReader


@dataclass(frozen=True)
class Form:
    """What an answer is held to, and how it is read: each choice gets a mask and a reader of its own.

    Log probabilities are told where there is a vocabulary to spell them with.
    """

    grammar: Grammar | None = None
    make_reader: Callable[[], CallReader] | None = None
    vocabulary: Vocabulary | None = None


FREE = Form()


class Choice:
    """One of the answers to a prompt: its text as it comes, how many tokens it took, and why it ended."""

    def __init__(self, number: int, model: Model, request: Request, form: Form) -> None:
        self.number = number
        self.request = request
        self.began = asyncio.Event()
        self.completion_tokens = 0
        self._finish_reason: Ended | None = None
        self._text = model.translator.stream()
        self._stop = StopStrings(request.stop)
        self._reader = form.make_reader() if form.make_reader else None
        self._vocabulary = form.vocabulary
        # Tokens whose text is not passed on yet, each with the character that it begins at.
        self._held: list[tuple[int, Token]] = []
        self._written = 0
        self._passed_on = 0

    async def pieces(self, generate: Generate) -> AsyncGenerator[Piece]:
        """Yield the text in pieces, none of them empty but perhaps the last; closing it frees the engine."""
        passed_on = []
        async with aclosing(generate(self.request)) as tokens:
            async for token in tokens:
                self.began.set()
                text = self._push(token)
                said = self._said()
                passed_on.append(text)
                if self._finish_reason:
                    note_answer("".join(passed_on))
                text, calls = self._read(text)
                if text or said or self._finish_reason:
                    yield Piece(self.number, text, said, calls, self._finish_reason)
                if self._finish_reason:
                    return

    def _push(self, token: Token) -> str:
        """Add a token; return the text that can be passed on now."""
        text = ""
        if token.id is not None:
            self.completion_tokens += 1
            self._held.append((self._written, token))
            text = self._text.push(token.id)
        if token.finish_reason:
            text += self._text.finish()
        self._written += len(text)
        text = self._stop.push(text)
        if token.finish_reason and not self._stop.found:
            text += self._stop.finish()
        self._finish_reason = "stop" if self._stop.found else token.finish_reason
        self._passed_on += len(text)
        return text

    def _read(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """Return what of the text is no call, and at the end the functions that the answer calls."""
        if self._reader is None:
            return text, ()
        text = self._reader.push(text)
        if not self._finish_reason:
            return text, ()
        rest, calls = self._reader.finish()
        return text + rest, tuple(calls)

    def _said(self) -> tuple[SaidToken, ...]:
        """Return the tokens of what was passed on since the last time; what a stop string cut off has none."""
        has_ended = self._finish_reason is not None and not self._stop.found
        count = len(self._held) if has_ended else sum(start < self._passed_on for start, _ in self._held)
        said, self._held = self._held[:count], self._held[count:]
        vocabulary = self._vocabulary
        return () if vocabulary is None else tuple(_spell([token for _, token in said], vocabulary))


def _spell(tokens: Sequence[Token], vocabulary: Vocabulary) -> Iterator[SaidToken]:
    for token in tokens:
        if token.id is not None and token.logprob is not None:
            top = tuple((vocabulary.bytes_of(id_), logprob) for id_, logprob in token.top_logprobs)
            yield SaidToken(vocabulary.bytes_of(token.id), token.logprob, top)


class EngineAnswer(Answer):
    """The choices to one or more prompts, `n` to each, side by side and on one charge."""

    def __init__(self, engine: Engine, model: Model, choices: Sequence[Choice], n: int = 1) -> None:
        self._choices = choices
        self._engine = engine
        self._n = n
        self._answerer = Answerer(model.expert_name)

    @property
    def count(self) -> int:
        """How many choices there are."""
        return len(self._choices)

    @property
    def answerer(self) -> Answerer:
        """The expert's version, or the bare base."""
        return self._answerer

    @property
    def prompt_tokens(self) -> int:
        """How many tokens went in; the choices to one prompt share it."""
        return sum(len(choice.request.prompt_ids) for choice in self._choices[:: self._n])

    @property
    def completion_tokens(self) -> int:
        """How many tokens have come out so far."""
        return sum(choice.completion_tokens for choice in self._choices)

    async def pieces(self, patience: float | None = None) -> AsyncGenerator[Piece | None]:
        """Yield the pieces as they come; closing the generator frees the engine of all choices."""
        requests = [choice.request for choice in self._choices]
        async with charged_together(self._engine, requests, self.prompt_tokens) as generate:
            sources = [self._follow(choice, generate) for choice in self._choices]
            async with aclosing(as_they_come(sources, patience)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _follow(self, choice: Choice, generate: Generate) -> AsyncGenerator[Piece]:
        """Pass on a choice; the first to a prompt goes ahead, and the others find its states."""
        first = self._choices[choice.number - choice.number % self._n]
        try:
            if choice is not first:
                await first.began.wait()
            async with aclosing(choice.pieces(generate)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            choice.began.set()


async def prepare_answer(
    engine: Engine,
    model: Model,
    messages: Sequence[Message],
    sampling: Sampling,
    stop: Sequence[str] = (),
    *,
    n: int = 1,
    form: Form = FREE,
    field: str = "messages",
) -> EngineAnswer:
    """Tokenise the messages; nothing is generated yet.

    Raises RequestError, naming `field`, when the prompt leaves no room or the template refuses the turns.
    """
    note_question(messages)
    try:
        ids = await asyncio.to_thread(model.translator.encode_prompt, messages)
    except ModelError as error:
        raise RequestError(str(error), param=field) from error
    return answer_to(engine, model, [ids], sampling, stop, n=n, form=form, field=field)


def answer_to(
    engine: Engine,
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stop: Sequence[str] = (),
    *,
    n: int = 1,
    form: Form = FREE,
    field: str,
) -> EngineAnswer:
    """Return the answer to prompts that are token ids already; raise RequestError, naming `field`, for one too long."""
    for ids in prompts:
        _check_length(ids, engine.context_length, field)
    department = None if model.expert is None else model.expert.department
    choices = []
    for number in range(len(prompts) * n):
        # A seed for each choice, or they would all be the same.
        seed = None if sampling.seed is None else sampling.seed + number % n
        own = replace(sampling, seed=seed)
        if form.grammar is not None:
            own = replace(own, mask=form.grammar.mask(), grammar=form.grammar.name)
        ids = tuple(prompts[number // n])
        request = Request(ids, model.translator.end_ids, own, model.adapter, department, stop=tuple(stop))
        choices.append(Choice(number, model, request, form))
    return EngineAnswer(engine, model, choices, n)


def _check_length(ids: Sequence[int], context_length: int, field: str) -> None:
    if len(ids) >= context_length:
        raise RequestError(
            f"the prompt has {len(ids)} tokens, and prompt and answer together may have "
            f"{context_length}; shorten the prompt",
            param=field,
            code="context_length_exceeded",
        )
