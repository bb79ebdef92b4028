"""The engine: one thread, one loop; each turn of it computes one step for everybody. Knows nothing of how.

    plan (scheduler) → step (runner) → choose (sampling) → complete (scheduler) → tell (readers)

The runner is used by this thread alone. Loading an expert happens between two steps; meanwhile all answers pause.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future

from quintet.engine.base import Adapter, DeviceInfo, EngineStatus, FinishReason, Request, Token
from quintet.engine.batch import Runner
from quintet.engine.kv_cache import KVCache
from quintet.engine.readers import Reader, tell_all
from quintet.engine.sampling import Choice, choose
from quintet.engine.scheduler import Scheduler, Step
from quintet.engine.sequence import Sequence, sequence_of
from quintet.errors import DeadlineError, ModelError, QuintetError, RequestError

logger = logging.getLogger("quintet.engine")

Choices = dict[Sequence, Choice | Exception]


class MixedEngine:
    """Serves experts of every kind, side by side in one batch.

    `max_queue` requests may wait besides the `max_running` that are being answered; a step computes at most
    `step_tokens` tokens, so a longer prompt takes several, between which others go on.
    """

    def __init__(
        self,
        runner: Runner,
        device: DeviceInfo | None = None,
        *,
        max_queue: int = 64,
        max_running: int = 32,
        step_tokens: int = 512,
    ) -> None:
        self.device = device or DeviceInfo("cpu")
        self._runner = runner
        cache = KVCache(runner.blocks, runner.block_size)
        self._scheduler = Scheduler(cache, max_queue=max_queue, max_running=max_running, step_tokens=step_tokens)
        self.context_length = min(runner.context_length, cache.places)
        self._experts: dict[str, int] = {}
        self._readers: dict[Sequence, Reader] = {}
        self._jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._loading = 0
        self._closing = False
        self._counts = EngineStatus()
        # Guards all of the above, except while the runner computes: then the scheduler may still be asked.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def status(self) -> EngineStatus:
        """What is loaded, waits and runs, and what was done so far."""
        with self._changed:
            return EngineStatus(
                loaded=set(self._experts),
                waiting=self._scheduler.waiting + self._loading,
                running=self._scheduler.begun,
                steps=self._counts.steps,
                prompt_tokens=self._counts.prompt_tokens,
                reused_tokens=self._scheduler.reused_tokens,
                generated_tokens=self._counts.generated_tokens,
                preemptions=self._scheduler.preemptions,
                load_seconds=self._counts.load_seconds,
                kv_cache_usage=1 - self._scheduler.cache.free / self._scheduler.cache.blocks,
            )

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter, once; raise ModelError when its files cannot be used. All answers pause meanwhile."""
        if adapter.digest not in self._experts:
            await self._between_steps(lambda: self._load(adapter))

    async def unload(self, digest: str) -> None:
        """Forget an expert and its states; raise ModelError while it still answers somebody."""
        await self._between_steps(lambda: self._unload(digest))

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token; closing the generator frees its place at once.

        Raises BusyError when too many wait, DeadlineError when the request's time is over, RequestError for a prompt
        that is too long, ModelError when its expert cannot be loaded or its answer not be computed.
        """
        started = time.monotonic()
        self._check(request, 0)
        if request.adapter is not None and request.adapter.digest not in self._experts:
            await self._load_for(request.adapter)
        reader = Reader(asyncio.get_running_loop())
        sequence = self._enter(request, reader, started)
        try:
            while True:
                token = await reader.next()
                yield token
                if token.finish_reason:
                    return
        finally:
            with self._changed:
                self._scheduler.remove(sequence)
                self._readers.pop(sequence, None)

    async def close(self) -> None:
        """Finish what has begun, fail what waits, and let go of the model."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    # ---- Asked from the threads of others.

    def _check(self, request: Request, virtual: int) -> int:
        """Return how many tokens the answer may have at most; raise RequestError when that is none."""
        places = self.context_length - virtual
        if not request.prompt_ids:
            raise RequestError("the prompt has no tokens; expected at least one")
        if len(request.prompt_ids) >= places:
            raise RequestError(
                f"the prompt has {len(request.prompt_ids)} tokens, and prompt and answer may have {places} together; "
                "shorten it",
                code="context_length_exceeded",
            )
        return places - len(request.prompt_ids)

    def _enter(self, request: Request, reader: Reader, started: float) -> Sequence:
        with self._changed:
            self._check_open()
            digest = request.adapter.digest if request.adapter else None
            if digest is not None and digest not in self._experts:
                raise ModelError("the expert was unloaded while the request came; ask again")
            virtual = 0 if digest is None else self._experts[digest]
            sequence = sequence_of(request, virtual, self._check(request, virtual), started)
            self._scheduler.add(sequence)
            self._readers[sequence] = reader
            self._changed.notify()
            return sequence

    async def _load_for(self, adapter: Adapter) -> None:
        """Load an expert for a request, which counts as waiting."""
        with self._changed:
            self._scheduler.check_room(self._loading)
            self._loading += 1
        try:
            await self.load(adapter)
        finally:
            with self._changed:
                self._loading -= 1

    async def _between_steps(self, job: Callable[[], None]) -> None:
        future: Future[None] = Future()
        with self._changed:
            self._check_open()
            self._jobs.append((job, future))
            self._changed.notify()
        await asyncio.wrap_future(future)

    def _check_open(self) -> None:
        if self._closing:
            raise _closed()

    # ---- On the engine's thread.

    def _run(self) -> None:
        try:
            while self._has_work():
                self._do_jobs()
                step = self._plan()
                if step.work:
                    self._finish(step, self._compute(step))
        except Exception:
            logger.exception("the engine's loop failed; the engine is closed")
        with self._changed:
            self._closing = True
            tell_all([(reader, _closed()) for reader in self._readers.values()])
            for _, future in self._jobs:
                if future.set_running_or_notify_cancel():
                    future.set_exception(_closed())
        del self._runner

    def _has_work(self) -> bool:
        """Wait until there is something to do; return whether there ever will be."""
        with self._changed:
            while not (self._closing or self._jobs or self._scheduler.waiting or self._scheduler.begun):
                self._changed.wait()
            if self._closing:
                dropped = self._scheduler.drop_waiting()
                tell_all([(self._readers[sequence], _closed()) for sequence in dropped])
            return not self._closing or self._scheduler.begun > 0

    def _do_jobs(self) -> None:
        while self._jobs:
            job, future = self._jobs.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    job()
                except Exception as error:
                    future.set_exception(error)
                else:
                    future.set_result(None)

    def _load(self, adapter: Adapter) -> None:
        if adapter.digest in self._experts:
            return
        started = time.monotonic()
        try:
            virtual = self._runner.load(adapter)
        finally:
            self._counts.load_seconds += time.monotonic() - started
        with self._changed:
            self._experts[adapter.digest] = virtual

    def _unload(self, digest: str) -> None:
        with self._changed:
            if any(sequence.expert == digest for sequence in self._scheduler.all()):
                raise ModelError("the expert still answers somebody; unload it later")
            if self._experts.pop(digest, None) is None:
                return
            self._scheduler.cache.forget(digest)
        self._runner.unload(digest)

    def _plan(self) -> Step:
        with self._changed:
            now = time.monotonic()
            step = self._scheduler.plan(now)
            for progress in (work.sequence.progress for work in step.work):
                progress.began = now if progress.began is None else progress.began
            tell_all([(self._readers[sequence], _late()) for sequence in step.late])
            return step

    def _compute(self, step: Step) -> Choices:
        """Return what comes next for each sequence that wants to know; if the step fails, that is an error for all."""
        asking = [work.sequence for work in step.work if work.chunk.wants_logits]
        try:
            logits = self._runner.step([work.chunk for work in step.work])
            return dict(zip(asking, choose(logits, asking) if asking else [], strict=True))
        except Exception as error:
            logger.exception("a step failed; its %d requests fail with it", len(step.work))
            return {work.sequence: _failed(error) for work in step.work}

    def _finish(self, step: Step, choices: Choices) -> None:
        """Account for a computed step, and tell the readers."""
        with self._changed:
            failures = {sequence: error for sequence, error in choices.items() if isinstance(error, Exception)}
            for sequence in failures:
                self._scheduler.remove(sequence)
            chosen = {sequence: choice for sequence, choice in choices.items() if isinstance(choice, Choice)}
            reasons = self._scheduler.complete(step, {sequence: choice.id for sequence, choice in chosen.items()})
            self._count(step, len(reasons))
            news: list[tuple[Sequence, Token | Exception]] = [(s, _failed(e)) for s, e in failures.items()]
            news += [(sequence, _token(chosen[sequence], reason)) for sequence, reason in reasons.items()]
            tell_all([(self._readers[sequence], item) for sequence, item in news if sequence in self._readers])

    def _count(self, step: Step, generated: int) -> None:
        self._counts.steps += 1
        self._counts.generated_tokens += generated
        for sequence, chunk in ((work.sequence, work.chunk) for work in step.work):
            self._counts.prompt_tokens += max(0, min(len(chunk.ids), len(sequence.prompt_ids) - chunk.start))


def _token(choice: Choice, reason: FinishReason | None) -> Token:
    return Token(None if reason == "stop" else choice.id, reason, choice.logprob, choice.top_logprobs)


def _closed() -> ModelError:
    return ModelError("the engine was closed before it could answer; ask again when it is back")


def _late() -> DeadlineError:
    return DeadlineError("the answer was not ready within its time; ask again later, or for fewer tokens")


def _failed(error: Exception) -> QuintetError:
    """Return an error as the one who asked is to see it."""
    if isinstance(error, QuintetError):
        return error
    return ModelError(f"the answer could not be computed ({type(error).__name__}: {error}); ask again")
