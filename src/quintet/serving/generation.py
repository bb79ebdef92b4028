"""Generation: prompts and sampling to an answer of the engine, piece by piece, of one choice or several."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from quintet.config import BASE
from quintet.engine.interface import CachePolicy, OutputKind, Request, SamplingParams, Token
from quintet.errors import ModelError, RequestError
from quintet.messages import Message
from quintet.serving.answer import Answer, Answerer, Call, Ended, Piece, SaidToken, merge
from quintet.serving.catalog import Model
from quintet.serving.output.stop_strings import StopStrings
from quintet.serving.output.structured_output import Grammar, Vocabulary
from quintet.serving.output.tool_calls import CallReader
from quintet.serving.quota import Account, reserve
from quintet.serving.request_record import Generation, note_answer, note_question
from quintet.serving.tracking import GenerationObserver, Tracker, track


class TokenSource(Protocol):
    """Generates tokens: an engine, or a cache before one."""

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""

    def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token; closing the generator frees its place."""


@dataclass(frozen=True)
class GenerationContext:
    """What requests are built with, beside their prompts.

    `deadline` is how many seconds an answer may take, `cache` what the response cache may do with it. `account` pays
    for it, and `observer` sees it.
    """

    source: TokenSource
    deadline: float | None = None
    cache: CachePolicy = "use"
    account: Account | None = None
    observer: GenerationObserver | None = None


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
    """One of the answers to a prompt: its text as it comes, and the record of how it came."""

    def __init__(self, number: int, model: Model, request: Request, form: Form) -> None:
        self.number = number
        self.generation = Generation(request.department or BASE, len(request.prompt_ids))
        self.request = replace(request, progress=self.generation.progress)
        self.has_begun = asyncio.Event()
        self._finish_reason: Ended | None = None
        self._text = model.translator.stream()
        self._stop = StopStrings(request.stop)
        self._reader = form.make_reader() if form.make_reader else None
        self._vocabulary = form.vocabulary
        # Tokens whose text is not passed on yet, each with the character that it begins at.
        self._held: list[tuple[int, Token]] = []
        self._written = 0
        self._passed_on = 0

    async def pieces(self, context: GenerationContext, output_kind: OutputKind = "delta") -> AsyncGenerator[Piece]:
        """Yield the text in pieces, none of them empty but perhaps the last; closing it frees the engine."""
        # A stop string may end the answer before the engine does.
        request = self.request if self.request.stop else replace(self.request, output_kind=output_kind)
        passed_on = []
        ready: str = ""
        said: tuple[SaidToken, ...] = ()
        with track(self.generation, context.observer) as tracker, self._counting_to_the_end(request, tracker):
            try:
                async with aclosing(context.source.generate(request)) as tokens:
                    async for token in tokens:
                        self.has_begun.set()
                        tracker.add(int(token.id is not None), token.finish_reason, token.at)
                        text = self._push(token)
                        said += self._said()
                        passed_on.append(text)
                        if self._finish_reason:
                            note_answer("".join(passed_on))
                        text, calls = self._read(text)
                        ready += text
                        # A reader that is behind gets what waits for it as one piece.
                        is_behind = self.generation.progress.unread and not self._finish_reason
                        if (ready or said or self._finish_reason) and not is_behind:
                            yield Piece(self.number, ready, said, calls, self._finish_reason)
                            ready, said = "", ()
                        if self._finish_reason:
                            return
            except Exception:
                if ready or said:
                    yield Piece(self.number, ready, said)
                raise

    @contextmanager
    def _counting_to_the_end(self, request: Request, tracker: Tracker) -> Iterator[None]:
        """Count tokens too that were generated and not handed over yet when the client left."""
        try:
            yield
        finally:
            unread = self.generation.progress.generated - self.generation.tokens
            if request.output_kind == "final" and unread > 0:
                tracker.add(unread, None)

    def _push(self, token: Token) -> str:
        """Add a token; return the text that can be passed on now."""
        text = ""
        if token.id is not None:
            if self._vocabulary is not None:
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
        if self._vocabulary is None:
            return ()
        has_ended = self._finish_reason is not None and not self._stop.found
        count = len(self._held) if has_ended else sum(start < self._passed_on for start, _ in self._held)
        said, self._held = self._held[:count], self._held[count:]
        spell = self._vocabulary.bytes_of
        return tuple(
            SaidToken(
                spell(token.id), token.logprob, tuple((spell(id_), logprob) for id_, logprob in token.top_logprobs)
            )
            for _, token in said
            if token.id is not None and token.logprob is not None
        )


class EngineAnswer(Answer):
    """The choices to one or more prompts, `n` to each, side by side and on one reservation of the caller's quota."""

    def __init__(self, context: GenerationContext, model: Model, choices: Sequence[Choice], n: int = 1) -> None:
        self._context = context
        self._choices = choices
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
        return sum(choice.generation.prompt_tokens for choice in self._choices[:: self._n])

    @property
    def completion_tokens(self) -> int:
        """How many tokens have come out so far."""
        return sum(choice.generation.tokens for choice in self._choices)

    @property
    def is_cached(self) -> bool:
        """Whether all choices were in the response cache, or on the way for another request."""
        return all(choice.generation.progress.cache == "hit" for choice in self._choices)

    async def pieces(self, *, as_whole: bool = False) -> AsyncGenerator[Piece]:
        """Yield the pieces as they come; closing the generator frees the engine of all choices.

        The quota is charged for the prompt and each token that came, until the client left if it did. An answer that
        fails before its first token costs nothing. Raises BudgetError or RequestError before it begins.
        """
        longest = sum(
            min(one.sampling.max_tokens, self._context.source.context_length - len(one.prompt_ids))
            for one in (choice.request for choice in self._choices)
        )
        if len(self._choices) == 1:
            source = self._choices[0].pieces(self._context, "final" if as_whole else "delta")
        else:
            source = merge([self._follow(choice) for choice in self._choices])
        async with reserve(self._context.account, self.prompt_tokens + longest) as reservation, aclosing(source):
            try:
                async for piece in source:
                    yield piece
            except Exception:
                reservation.used = self.prompt_tokens + self.completion_tokens if self.completion_tokens else 0
                raise
            finally:
                if reservation.used is None:
                    reservation.used = self.prompt_tokens + self.completion_tokens

    async def _follow(self, choice: Choice) -> AsyncGenerator[Piece]:
        """Pass on a choice; the first to a prompt goes ahead, and the others find its states."""
        first = self._choices[choice.number - choice.number % self._n]
        try:
            if choice is not first:
                await first.has_begun.wait()
            async with aclosing(choice.pieces(self._context)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            choice.has_begun.set()


async def prepare_answer(
    context: GenerationContext,
    model: Model,
    messages: Sequence[Message],
    sampling: SamplingParams,
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
    return answer_to(context, model, [ids], sampling, stop, n=n, form=form, field=field)


def answer_to(
    context: GenerationContext,
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    stop: Sequence[str] = (),
    *,
    n: int = 1,
    form: Form = FREE,
    field: str,
) -> EngineAnswer:
    """Return the answer to prompts that are token ids already; raise RequestError, naming `field`, for one too long."""
    for ids in prompts:
        if len(ids) >= context.source.context_length:
            raise RequestError(
                f"the prompt has {len(ids)} tokens, and prompt and answer together may have "
                f"{context.source.context_length}; shorten the prompt",
                param=field,
                code="context_length_exceeded",
            )
    department = None if model.expert is None else model.expert.department
    choices = []
    for number in range(len(prompts) * n):
        # A seed for each choice, or they would all be the same.
        seed = None if sampling.seed is None else sampling.seed + number % n
        own = replace(sampling, seed=seed)
        if form.grammar is not None:
            own = replace(own, mask=form.grammar.mask(), grammar=form.grammar.name)
        ids = tuple(prompts[number // n])
        request = Request(
            ids, model.translator.end_ids, own, model.adapter, department,
            timeout=context.deadline, stop=tuple(stop), cache=context.cache,
        )  # fmt: skip
        choices.append(Choice(number, model, request, form))
    return EngineAnswer(context, model, choices, n)
