"""A provider's answer, tracked and charged like an expert's."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from quintet.serving.answer import Answer, Answerer, Piece
from quintet.serving.providers.client import Provider
from quintet.serving.providers.errors import UnansweredError
from quintet.serving.providers.request import Asked
from quintet.serving.providers.retries import ProviderExchange
from quintet.serving.quota import Account, reserve
from quintet.serving.request_record import Generation, note_answer, note_provider, note_question
from quintet.serving.tracking import GenerationObserver, track


class ProviderAnswer(Answer):
    """What a provider says in a department's name."""

    def __init__(
        self,
        department: str,
        provider: Provider,
        asked: Asked,
        exchange: ProviderExchange,
        observer: GenerationObserver,
        account: Account | None,
    ) -> None:
        self._department = department
        self._provider = provider
        self._asked = asked
        self._exchange = exchange
        self._observer = observer
        self._account = account

    @property
    def count(self) -> int:
        """How many choices there are."""
        return self._asked.count

    @property
    def answerer(self) -> Answerer:
        """The provider, and the model by its name there."""
        return Answerer(provider=self._provider.name, model=self._provider.model)

    @property
    def prompt_tokens(self) -> int:
        """How many tokens went in, as the provider says, or an estimate."""
        usage = self._exchange.reading.usage
        return self._asked.prompt_tokens if usage is None else usage.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """How many tokens have come out, as the provider says at its end, or an estimate."""
        return self._exchange.reading.completion_tokens

    async def pieces(self, *, as_whole: bool = False) -> AsyncGenerator[Piece]:
        """Yield the pieces as they come; closing the generator closes the connection. Raises ProviderError."""
        note_provider(self._department, self._provider.model)
        note_question(self._asked.messages)
        generation = Generation(self._department, self._asked.prompt_tokens, elsewhere=self._provider.model)
        generation.progress.began = generation.arrived
        longest = self._asked.prompt_tokens + self._asked.max_tokens * self._asked.count
        was_cut = has_begun = False
        async with reserve(self._account, longest) as reservation:
            try:
                with track(generation, self._observer) as tracker:
                    try:
                        async with aclosing(self._exchange.pieces()) as pieces:
                            async for piece in pieces:
                                has_begun = True
                                tracker.add(0, None)
                                was_cut = was_cut or piece.finish_reason == "length"
                                if piece.finish_reason:
                                    note_answer(self._exchange.reading.texts[piece.choice])
                                yield piece
                        generation.reason = "length" if was_cut else "stop"
                    finally:
                        generation.prompt_tokens, generation.tokens = self.prompt_tokens, self.completion_tokens
            except UnansweredError as trouble:
                raise trouble.of(self._department, self._provider.name) from None
            finally:
                # What fails before its first word costs nothing.
                reservation.used = generation.prompt_tokens + generation.tokens if has_begun else 0
