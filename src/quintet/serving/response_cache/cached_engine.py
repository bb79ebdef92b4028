"""Cached engine: a repeatable answer comes from the store, from a generation under way, or is computed now.

Stands before the engine's queue, since a kept answer need not wait, and behind the keys' quotas, since it is charged
like any other.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from quintet import __version__
from quintet.engine.interface import CacheOutcome, Engine, Request, Token
from quintet.serving.background import BackgroundTasks
from quintet.serving.response_cache.entry import pack, unpack
from quintet.serving.response_cache.key import is_repeatable, key_of
from quintet.serving.response_cache.single_flight import Flight
from quintet.serving.response_cache.store import Store

FORMAT = 1
"""Of what is kept: another one neither reads nor overwrites it."""

Source = AsyncGenerator[Token]


class CachedEngine:
    """An engine whose answers are kept in a store, where there is one, and given again.

    `digest_base` identifies the base's files; it may take long, and is asked in a thread, the first time.
    """

    def __init__(self, engine: Engine, store: Store | None, digest_base: Callable[[], str]) -> None:
        self._engine = engine
        self._store = store
        self._digest_base = digest_base
        self._model: str | None = None
        self._flights: dict[str, Flight] = {}
        self._keeping = BackgroundTasks()

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""
        return self._engine.context_length

    def generate(self, request: Request) -> Source:
        """Yield the answer token by token; one that could be another next time is the engine's alone."""
        if self._store is None:
            return self._engine.generate(request)
        if request.cache == "bypass" or not is_repeatable(request.sampling):
            _note(request, "bypass")
            return self._engine.generate(request)
        return self._answer(self._store, request)

    async def close(self) -> None:
        """Let the engine finish, and keep what it answered."""
        await self._engine.close()
        await self._keeping.finished()
        if self._store is not None:
            await self._store.close()

    async def _answer(self, store: Store, request: Request) -> Source:
        if self._model is None:
            base = await asyncio.to_thread(self._digest_base)
            self._model = f"{FORMAT} {__version__} {base} {self._engine.device.dtype} {self.context_length}"
        key = key_of(request, self._model)
        if request.cache == "refresh" or key in self._flights:
            kept = []
        else:
            data = await store.get(key)
            kept = (unpack(key, data) or []) if data else []
        given: list[Token] = []
        try:
            for source, there, is_last in self._sources(store, kept, key, request, given):
                try:
                    async with aclosing(source) as tokens:
                        async for token in tokens:
                            given.append(token)
                            if request.progress is not None:
                                request.progress.unread = len(there) - len(given)
                            yield token
                except Exception:
                    if is_last:
                        raise
                if given and given[-1].finish_reason:
                    return
        except GeneratorExit:
            # Who has the same stop strings will not read on either.
            if request.stop and len(given) > len(kept) and not given[-1].finish_reason:
                self._keep(store, key, given)
            raise

    def _sources(
        self, store: Store, kept: Sequence[Token], key: str, request: Request, given: Sequence[Token]
    ) -> Iterator[tuple[Source, Sequence[Token], bool]]:
        """Yield where the answer comes from, the tokens that are there, and whether it must have all of them.

        Each source comes when the one before did not have all of the answer.
        """
        wants_new = request.cache == "refresh"
        if kept:
            _note(request, "hit")
            yield _replay(kept), kept, False
        if not wants_new and (flight := self._flights.get(key)):
            # It may fail by what concerns only the one who asked first, such as a deadline.
            _note(request, "hit")
            yield flight.read(len(given)), flight.tokens, False
        _note(request, "bypass" if wants_new else "miss")
        others = None if wants_new else self._flights.get(key)
        own = others or self._begin(store, key, request)
        yield own.read(len(given)), own.tokens, True

    def _begin(self, store: Store, key: str, request: Request) -> Flight:
        def ended(flight: Flight) -> None:
            if flight.is_whole:
                self._keep(store, key, flight.tokens).add_done_callback(lambda _: forget(flight))
            else:
                forget(flight)

        def forget(flight: Flight) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        # Another request may read it as it comes.
        flight = Flight(self._engine.generate(replace(request, output_kind="delta")), ended)
        self._flights.setdefault(key, flight)
        return flight

    def _keep(self, store: Store, key: str, tokens: Sequence[Token]) -> asyncio.Task[None]:
        """Begin to keep an answer: nobody who has it waits for that."""
        return self._keeping.begin(store.put(key, pack(key, tokens)))


async def _replay(tokens: Sequence[Token]) -> Source:
    for token in tokens:
        yield token


def _note(request: Request, outcome: CacheOutcome) -> None:
    if request.progress is not None:
        request.progress.cache = outcome
