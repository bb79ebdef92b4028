"""The first engine: transformers' own `generate`, one request at a time; every expert is a view of the one base.

One worker thread owns the model, so requests of many clients queue here and never meet in the model.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from quintet.base_model import load_model, pick_device
from quintet.engine.base import Adapter, DeviceInfo, EngineStatus, Request, Sampling, Token
from quintet.errors import BusyError, ModelError, RequestError
from quintet.expert_model import load_expert_model, quietly


class TransformersEngine:
    """Serves one base and experts of every method; adapters share the one copy of the base."""

    def __init__(self, source: str, device: str | None = None, max_queue: int = 64) -> None:
        device = device or pick_device()
        self._base = load_model(source, device)
        self._device = device
        self._max_queue = max_queue
        self._waiting = 0
        self._lock = threading.Lock()
        self._experts: dict[str, Any] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")

    @property
    def device(self) -> DeviceInfo:
        """Where it computes."""
        gpu = torch.cuda.get_device_name() if self._device.startswith("cuda") else None
        return DeviceInfo(self._device, gpu, str(self._base.dtype).removeprefix("torch."))

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""
        return int(self._base.config.get_text_config().max_position_embeddings)

    @property
    def status(self) -> EngineStatus:
        """Digests of the loaded adapters, and how many requests wait or run."""
        return EngineStatus(set(self._experts), self._waiting)

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter, once; raise ModelError when its files cannot be used."""
        if adapter.digest not in self._experts:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._load, adapter)

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token; closing the iterator stops the generation at its next token."""
        room = self.context_length - len(request.prompt_ids)
        if room < 1:
            raise RequestError(
                f"the prompt has {len(request.prompt_ids)} tokens, and prompt and answer may have "
                f"{self.context_length} together; shorten it"
            )
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[Token | BaseException] = asyncio.Queue()
        stopped = threading.Event()

        def put(token: Token | BaseException) -> None:
            # The reader's loop may be gone; then nobody is left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tokens.put_nowait, token)

        def leave(job: "Future[None]") -> None:
            self._count(-1)
            put(_why_it_ended(job))

        self._count(+1)
        self._worker.submit(self._generate, request, room, put, stopped).add_done_callback(leave)
        try:
            while True:
                token = await tokens.get()
                if isinstance(token, BaseException):
                    raise token
                yield token
                if token.finish_reason:
                    return
        finally:
            stopped.set()

    async def close(self) -> None:
        """Finish what is running and free the model."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    def _count(self, change: int) -> None:
        """Note that a request came or left; raise BusyError when it may not come."""
        with self._lock:
            if change > 0 and self._waiting >= self._max_queue:
                raise BusyError(f"{self._waiting} requests wait, the most allowed; try again in a moment")
            self._waiting += change

    def _load(self, adapter: Adapter) -> Any:
        if adapter.digest not in self._experts:
            self._experts[adapter.digest] = load_expert_model(adapter.folder, self._base)
        return self._experts[adapter.digest]

    def _generate(self, request: Request, room: int, emit: Callable[[Token], None], stopped: threading.Event) -> None:
        if stopped.is_set():
            return
        model: Any = self._base if request.adapter is None else self._load(request.adapter)
        limit = min(request.sampling.max_tokens, room)
        prompt = torch.tensor([request.prompt_ids], device=self._device)
        with torch.inference_mode(), quietly():
            model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=limit,
                eos_token_id=list(request.end_ids),
                pad_token_id=request.end_ids[0],
                streamer=_Emitter(emit, request.end_ids, limit),
                stopping_criteria=[_Stopped(stopped)],
                **_sampling_options(request.sampling),
            )


class _Emitter(BaseStreamer):
    """Passes generated ids on as tokens, and says which is the last; the first call brings the prompt."""

    def __init__(self, emit: Callable[[Token], None], end_ids: tuple[int, ...], limit: int) -> None:
        self._emit = emit
        self._end_ids = end_ids
        self._left = limit
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt once, then one id at a time."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._left -= 1
        id_ = int(value.reshape(-1)[0])
        if id_ in self._end_ids:
            self._emit(Token(None, "stop"))
        else:
            self._emit(Token(id_, None if self._left else "length"))

    def end(self) -> None:
        """Do nothing: the last token said that it is the last."""


class _Stopped(StoppingCriteria):
    """Stops when nobody listens any more."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._stopped.is_set(), device=input_ids.device)


def _sampling_options(sampling: Sampling) -> dict[str, Any]:
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    # Below this the logits, divided by it, overflow; greedy is where they tend to.
    if sampling.temperature < 1e-5:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}


def _why_it_ended(job: "Future[None]") -> BaseException:
    """Return what to raise for a job that ended, in case its last token never came."""
    if job.cancelled():
        return ModelError("the engine was closed before it could answer; ask again when it is back")
    return job.exception() or ModelError("the engine ended an answer without its last token")
