"""The engine's step loop: one thread, which computes one step for everybody in each turn.

    poll adapters → plan (scheduler) → step (runner) → sample (sampler) → complete (scheduler) → put on the streams

The runner computes on this thread alone. An adapter that a request lacks is read on another, while steps go on.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Mapping

from quintet.engine.adapters.eviction import AdapterCache
from quintet.engine.adapters.manager import AdapterManager
from quintet.engine.interface import Adapter, DeviceInfo, EngineStatus, FinishReason, Request, Token
from quintet.engine.output_streams import OutputStream, put_all
from quintet.engine.runner.sampler import SampledToken, sample
from quintet.engine.scheduling.block_manager import BlockManager
from quintet.engine.scheduling.scheduler import ScheduledStep, Scheduler
from quintet.engine.scheduling.sequence import Sequence, sequence_of
from quintet.engine.types import Runner
from quintet.errors import DeadlineError, EngineStoppedError, ModelError, QuintetError, RequestError

logger = logging.getLogger("quintet.engine")

Choices = dict[Sequence, SampledToken | Exception]


class MixedEngine:
    """Serves experts of every kind, side by side in one batch.

    `max_queue` requests may wait besides the `max_running` that are being answered; a step computes at most
    `step_tokens` tokens, so a longer prompt takes several, between which others go on. Experts in memory take at most
    `expert_memory` bytes together, by default what the runner thinks right; they come when asked for, and the least
    recently used leave for those that come.
    """

    def __init__(
        self,
        runner: Runner,
        device: DeviceInfo | None = None,
        *,
        max_queue: int = 64,
        max_running: int = 32,
        step_tokens: int = 512,
        expert_memory: int | None = None,
    ) -> None:
        self.device = device or DeviceInfo("cpu")
        self._runner = runner
        cache = BlockManager(runner.blocks, runner.block_size)
        self._scheduler = Scheduler(cache, max_queue=max_queue, max_running=max_running, step_tokens=step_tokens)
        self.context_length = min(runner.context_length, cache.places)
        self._cache = AdapterCache(runner.expert_memory if expert_memory is None else expert_memory)
        self._adapters = AdapterManager(runner, self._cache, self._wake)
        self._streams: dict[Sequence, OutputStream] = {}
        self._loads: dict[OutputStream, str] = {}
        self._closing = False
        # Whether something happened from which another turn of the loop may follow.
        self._woken = False
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
                loaded=self._cache.loaded,
                waiting=self._scheduler.waiting,
                running=self._scheduler.begun,
                steps=self._counts.steps,
                prompt_tokens=self._counts.prompt_tokens,
                reused_tokens=self._scheduler.reused_tokens,
                generated_tokens=self._counts.generated_tokens,
                preemptions=self._scheduler.preemptions,
                expert_bytes=self._cache.bytes,
                expert_memory=self._cache.budget,
                loads=self._adapters.loads,
                evictions=self._cache.evictions,
                load_seconds=self._adapters.seconds,
                kv_cache_usage=1 - self._scheduler.cache.free / self._scheduler.cache.blocks,
                alive=not self._closing,
            )

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter before anybody asks it; raise ModelError when it cannot be. It leaves like any other."""
        stream = OutputStream(asyncio.get_running_loop())
        with self._changed:
            self._check_open()
            self._loads[stream] = adapter.digest
            self._adapters.want(adapter)
            self._wake()
        try:
            await stream.next()
        finally:
            with self._changed:
                self._loads.pop(stream, None)
                self._wake()

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token; closing the generator frees its place at once.

        Raises BusyError when too many wait, DeadlineError when the request's time is over, RequestError for a prompt
        that is too long, ModelError when its expert cannot be loaded or its answer not be computed.
        """
        stream = OutputStream(asyncio.get_running_loop(), request.output_kind)
        sequence = self._queue(request, stream)
        try:
            while True:
                token = await stream.next()
                sequence.progress.unread = stream.news.qsize()
                yield token
                if token.finish_reason:
                    return
        finally:
            with self._changed:
                self._scheduler.remove(sequence)
                self._streams.pop(sequence, None)
                self._wake()

    async def close(self) -> None:
        """Finish what has begun, fail what waits, and let go of the model."""
        with self._changed:
            self._closing = True
            self._wake()
        await asyncio.to_thread(self._thread.join)

    # ---- Asked from the threads of others.

    def _queue(self, request: Request, stream: OutputStream) -> Sequence:
        """Take a request in; it waits outside while its expert takes no requests."""
        sequence = sequence_of(request, time.monotonic())
        with self._changed:
            self._check_open()
            num_virtual_tokens = 0 if request.adapter is None else self._cache.use(request.adapter.digest)
            self._fit_prompt(sequence, num_virtual_tokens or 0)
            if request.adapter is not None and num_virtual_tokens is None:
                self._scheduler.add_waiting_for_adapter(sequence)
                self._adapters.want(request.adapter)
            else:
                self._scheduler.add(sequence)
            self._streams[sequence] = stream
            self._wake()
            return sequence

    def _fit_prompt(self, sequence: Sequence, num_virtual_tokens: int) -> None:
        """Note how many virtual tokens are in front; raise RequestError when the prompt has no room behind them."""
        places = self.context_length - num_virtual_tokens
        length = len(sequence.prompt_ids)
        if not length:
            raise RequestError("the prompt has no tokens; expected at least one")
        if length >= places:
            raise RequestError(
                f"the prompt has {length} tokens, and prompt and answer may have {places} together; shorten it",
                code="context_length_exceeded",
            )
        sequence.num_virtual_tokens, sequence.max_new_tokens = (
            num_virtual_tokens,
            min(sequence.max_new_tokens, places - length),
        )

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    def _check_open(self) -> None:
        if self._closing:
            raise EngineStoppedError()

    # ---- On the engine's thread.

    def _run(self) -> None:
        try:
            while self._has_work():
                with self._changed:
                    waiting = [
                        (sequence, sequence.expert)
                        for sequence in self._scheduler.waiting_for_adapter
                        if sequence.expert
                    ]
                    needed = {*(expert for _, expert in waiting), *self._loads.values()}
                    ends = self._adapters.poll(needed, self._scheduler.used)
                    self._woken = bool(ends)
                    for sequence, expert in waiting:
                        if expert in ends:
                            error = ends[expert]
                            try:
                                if error:
                                    raise error
                                self._fit_prompt(sequence, self._cache.use(expert) or 0)
                                self._scheduler.admit_loaded(sequence)
                            except QuintetError as problem:
                                self._scheduler.remove(sequence)
                                put_all([(self._streams[sequence], problem)])
                    self._end_loads(ends)
                began = time.perf_counter()
                step = self._plan()
                if step.work:
                    choices = self._compute(step)
                    self._finish(step, choices, time.perf_counter() - began)
        except Exception:
            logger.exception("the engine's loop failed; the engine is closed")
        with self._changed:
            self._closing = True
            put_all([(stream, EngineStoppedError()) for stream in self._streams.values()])
            self._end_loads(dict.fromkeys(self._loads.values(), EngineStoppedError()))
        self._adapters.close()
        del self._runner

    def _has_work(self) -> bool:
        """Wait until there is something to do; return whether there ever will be."""
        with self._changed:
            while not (self._closing or self._woken or self._scheduler.inside):
                if not self._changed.wait(self._scheduler.next_timeout(time.monotonic())):
                    break
            if self._closing:
                dropped = self._scheduler.drop_waiting()
                put_all([(self._streams[sequence], EngineStoppedError()) for sequence in dropped])
            return not self._closing or self._scheduler.begun > 0

    def _end_loads(self, ends: Mapping[str, Exception | None]) -> None:
        """Tell those who asked for no more than that an expert is loaded."""
        ended = {stream: digest for stream, digest in self._loads.items() if digest in ends}
        put_all([(stream, ends[digest] or Token(None)) for stream, digest in ended.items()])
        self._loads = {stream: digest for stream, digest in self._loads.items() if stream not in ended}

    def _plan(self) -> ScheduledStep:
        with self._changed:
            now = time.monotonic()
            step = self._scheduler.plan(now)
            for progress in (work.sequence.progress for work in step.work):
                progress.began = now if progress.began is None else progress.began
            put_all([(self._streams[sequence], self._late()) for sequence in step.timed_out])
            self._woken |= bool(step.work or step.timed_out)
            return step

    def _late(self) -> DeadlineError:
        error = DeadlineError("the answer was not ready within its time; ask again later, or for fewer tokens")
        error.retry_after = self._scheduler.retry_after.promise()
        return error

    def _compute(self, step: ScheduledStep) -> Choices:
        """Return what comes next for each sequence that wants to know; if the step fails, that is an error for all."""
        asking = [work.sequence for work in step.work if work.chunk.wants_logits]
        try:
            logits = self._runner.step([work.chunk for work in step.work])
            return dict(zip(asking, sample(logits, asking) if asking else [], strict=True))
        except Exception as error:
            logger.exception("a step failed; its %d requests fail with it", len(step.work))
            return {work.sequence: _failed(error) for work in step.work}

    def _finish(self, step: ScheduledStep, choices: Choices, seconds: float) -> None:
        """Account for a step that took so long, and tell the readers."""
        with self._changed:
            failures = {sequence: error for sequence, error in choices.items() if isinstance(error, Exception)}
            for sequence in failures:
                self._scheduler.remove(sequence)
            chosen = {sequence: choice for sequence, choice in choices.items() if isinstance(choice, SampledToken)}
            ids = {sequence: choice.id for sequence, choice in chosen.items()}
            reasons = self._scheduler.complete(step, ids, seconds)
            for sequence, reason in reasons.items():
                sequence.progress.generated += reason != "stop"
            self._count(step, len(reasons))
            now = time.monotonic()
            news: list[tuple[Sequence, Token | Exception]] = [(s, _failed(e)) for s, e in failures.items()]
            news += [(sequence, _token(chosen[sequence], reason, now)) for sequence, reason in reasons.items()]
            put_all([(self._streams[sequence], item) for sequence, item in news if sequence in self._streams])

    def _count(self, step: ScheduledStep, generated: int) -> None:
        self._counts.steps += 1
        self._counts.generated_tokens += generated
        for sequence, chunk in ((work.sequence, work.chunk) for work in step.work):
            self._counts.prompt_tokens += max(0, min(len(chunk.ids), len(sequence.prompt_ids) - chunk.start))


def _token(choice: SampledToken, reason: FinishReason | None, now: float) -> Token:
    return Token(None if reason == "stop" else choice.id, reason, choice.logprob, choice.top_logprobs, now)


def _failed(error: Exception) -> QuintetError:
    """Return an error as the one who asked is to see it."""
    if isinstance(error, QuintetError):
        return error
    return ModelError(f"the answer could not be computed ({type(error).__name__}: {error}); ask again")
