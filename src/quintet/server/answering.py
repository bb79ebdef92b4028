"""Messages and sampling → text, piece by piece. Knows nothing of HTTP, nor of where experts lie."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from quintet.data.examples import Message
from quintet.engine.base import Engine, FinishReason, Request, Sampling
from quintet.errors import ModelError, RequestError
from quintet.server.catalog import Model
from quintet.server.recording import note_answer, note_question
from quintet.server.stop_strings import StopStrings


class Answer:
    """One answer: its text as it comes, and, when it has ended, how many tokens it took and why it ended."""

    def __init__(self, engine: Engine, model: Model, request: Request, stop: Sequence[str]) -> None:
        self._engine = engine
        self._request = request
        self._text = model.translator.stream()
        self._stop = StopStrings(stop)
        self.prompt_tokens = len(request.prompt_ids)
        self.completion_tokens = 0
        self.finish_reason: FinishReason | None = None

    async def deltas(self) -> AsyncGenerator[str]:
        """Yield the text in pieces, none of them empty; closing the generator frees the engine."""
        said = []
        async with aclosing(self._engine.generate(self._request)) as tokens:
            async for token in tokens:
                self.completion_tokens += token.id is not None
                text = "" if token.id is None else self._text.push(token.id)
                if token.finish_reason:
                    text += self._text.finish()
                text = self._stop.push(text)
                if token.finish_reason and not self._stop.found:
                    text += self._stop.finish()
                self.finish_reason = "stop" if self._stop.found else token.finish_reason
                said.append(text)
                if self.finish_reason:
                    note_answer("".join(said))
                if text:
                    yield text
                if self.finish_reason:
                    return

    async def text(self) -> str:
        """Return the whole text."""
        async with aclosing(self.deltas()) as deltas:
            return "".join([delta async for delta in deltas])


async def prepare_answer(
    engine: Engine,
    model: Model,
    messages: Sequence[Message],
    sampling: Sampling,
    stop: Sequence[str] = (),
    *,
    field: str = "messages",
) -> Answer:
    """Tokenise the messages; nothing is generated yet.

    Raises RequestError, naming `field`, when the prompt leaves no room or the template refuses the turns.
    """
    note_question(messages)
    try:
        ids = await asyncio.to_thread(model.translator.encode_prompt, messages)
    except ModelError as error:
        raise RequestError(str(error), param=field) from error
    if len(ids) >= engine.context_length:
        raise RequestError(
            f"the prompt has {len(ids)} tokens, and prompt and answer together may have "
            f"{engine.context_length}; shorten the prompt",
            param=field,
            code="context_length_exceeded",
        )
    department = None if model.expert is None else model.expert.department
    request = Request(tuple(ids), model.translator.end_ids, sampling, model.adapter, department)
    return Answer(engine, model, request, stop)
