"""Prompts and sampling → text, piece by piece, of one choice or several. Knows nothing of HTTP.

Nor does it know where experts lie.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from quintet.data.examples import Message
from quintet.engine.base import Engine, FinishReason, LogitMask, Request, Sampling, Token
from quintet.errors import ModelError, RequestError
from quintet.server.catalog import Model
from quintet.server.metering import Generate, charged_together
from quintet.server.recording import note_answer, note_question
from quintet.server.stop_strings import StopStrings

MakeMask = Callable[[], LogitMask]


@dataclass(frozen=True)
class Piece:
    """What came of a choice: text, the tokens that it is made of where their probabilities matter, why it ended."""

    choice: int
    text: str
    tokens: tuple[Token, ...] = ()
    finish_reason: FinishReason | None = None


class Choice:
    """One of the answers to a prompt: its text as it comes, how many tokens it took, and why it ended."""

    def __init__(self, number: int, model: Model, request: Request, stop: Sequence[str]) -> None:
        self.number = number
        self.request = request
        self.began = asyncio.Event()
        self.completion_tokens = 0
        self.finish_reason: FinishReason | None = None
        self._text = model.translator.stream()
        self._stop = StopStrings(stop)
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
                if self.finish_reason:
                    note_answer("".join(passed_on))
                if text or said or self.finish_reason:
                    yield Piece(self.number, text, said, self.finish_reason)
                if self.finish_reason:
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
        self.finish_reason = "stop" if self._stop.found else token.finish_reason
        self._passed_on += len(text)
        return text

    def _said(self) -> tuple[Token, ...]:
        """Return the tokens of what was passed on since the last time; what a stop string cut off has none."""
        has_ended = self.finish_reason is not None and not self._stop.found
        count = len(self._held) if has_ended else sum(start < self._passed_on for start, _ in self._held)
        said, self._held = self._held[:count], self._held[count:]
        return tuple(token for _, token in said) if self.request.sampling.logprobs is not None else ()


class Answer:
    """The choices to one or more prompts, `n` to each, side by side and on one charge."""

    def __init__(self, engine: Engine, choices: Sequence[Choice], n: int = 1) -> None:
        self.choices = choices
        self._engine = engine
        self._n = n

    @property
    def prompt_tokens(self) -> int:
        """How many tokens went in; the choices to one prompt share it."""
        return sum(len(choice.request.prompt_ids) for choice in self.choices[:: self._n])

    @property
    def completion_tokens(self) -> int:
        """How many tokens have come out so far."""
        return sum(choice.completion_tokens for choice in self.choices)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the first choice ended, once it has."""
        return self.choices[0].finish_reason

    async def pieces(self, patience: float | None = None) -> AsyncGenerator[Piece | None]:
        """Yield the pieces of all choices as they come, and None whenever none came for `patience` seconds.

        The first failure of a choice is that of the whole. Closing the generator frees the engine of all of them.
        """
        requests = [choice.request for choice in self.choices]
        news: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        async with charged_together(self._engine, requests, self.prompt_tokens) as generate:
            tasks = [asyncio.create_task(self._follow(choice, generate, news)) for choice in self.choices]
            running = len(tasks)
            try:
                while running:
                    try:
                        item = await asyncio.wait_for(news.get(), patience)
                    except TimeoutError:
                        yield None
                        continue
                    if isinstance(item, Exception):
                        raise item
                    if item is None:
                        running -= 1
                    else:
                        yield item
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def whole(self) -> list[Piece]:
        """Return each choice in one piece."""
        parts: list[list[Piece]] = [[] for _ in self.choices]
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                if piece is not None:
                    parts[piece.choice].append(piece)
        return [_joined(choice, of_one) for choice, of_one in zip(self.choices, parts, strict=True)]

    async def text(self) -> str:
        """Return the whole text of the first choice."""
        return (await self.whole())[0].text

    async def _follow(self, choice: Choice, generate: Generate, news: asyncio.Queue[Piece | Exception | None]) -> None:
        """Pass on a choice, and None at its end; the first to a prompt goes ahead, and the others find its states."""
        first = self.choices[choice.number - choice.number % self._n]
        try:
            if choice is not first:
                await first.began.wait()
            async with aclosing(choice.pieces(generate)) as pieces:
                async for piece in pieces:
                    news.put_nowait(piece)
            news.put_nowait(None)
        except Exception as error:
            news.put_nowait(error)
        finally:
            choice.began.set()


def _joined(choice: Choice, pieces: Sequence[Piece]) -> Piece:
    text = "".join(piece.text for piece in pieces)
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    return Piece(choice.number, text, tokens, choice.finish_reason or "stop")


async def prepare_answer(
    engine: Engine,
    model: Model,
    messages: Sequence[Message],
    sampling: Sampling,
    stop: Sequence[str] = (),
    *,
    n: int = 1,
    make_mask: MakeMask | None = None,
    field: str = "messages",
) -> Answer:
    """Tokenise the messages; nothing is generated yet.

    `make_mask` makes each choice what its tokens must obey. Raises RequestError, naming `field`, when the prompt leaves
    no room or the template refuses the turns.
    """
    note_question(messages)
    try:
        ids = await asyncio.to_thread(model.translator.encode_prompt, messages)
    except ModelError as error:
        raise RequestError(str(error), param=field) from error
    return answer_to(engine, model, [ids], sampling, stop, n=n, make_mask=make_mask, field=field)


def answer_to(
    engine: Engine,
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stop: Sequence[str] = (),
    *,
    n: int = 1,
    make_mask: MakeMask | None = None,
    field: str,
) -> Answer:
    """Return the answer to prompts that are token ids already; raise RequestError, naming `field`, for one too long."""
    for ids in prompts:
        _check_length(ids, engine.context_length, field)
    department = None if model.expert is None else model.expert.department
    choices = []
    for number in range(len(prompts) * n):
        # A seed for each choice, or they would all be the same.
        seed = None if sampling.seed is None else sampling.seed + number % n
        own = replace(sampling, seed=seed, mask=make_mask() if make_mask else None)
        ids = tuple(prompts[number // n])
        request = Request(ids, model.translator.end_ids, own, model.adapter, department)
        choices.append(Choice(number, model, request, stop))
    return Answer(engine, choices, n)


def _check_length(ids: Sequence[int], context_length: int, field: str) -> None:
    if len(ids) >= context_length:
        raise RequestError(
            f"the prompt has {len(ids)} tokens, and prompt and answer together may have "
            f"{context_length}; shorten the prompt",
            param=field,
            code="context_length_exceeded",
        )
