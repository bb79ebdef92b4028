"""The engine's interface: what a request says, what a token is, and what an engine does. Imports no compute library."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]
CacheOutcome = Literal["hit", "miss", "bypass"]
CachePolicy = Literal["use", "refresh", "bypass"]
"""What a response cache may do with a request: give a kept answer, keep a new one, or neither."""
OutputKind = Literal["delta", "final"]
"""Whether tokens are handed over as they come, or all of them at the end."""

LogitMask = Callable[[tuple[int, ...]], Any]
"""What was generated so far → what may come next: ids, or a boolean array over the vocabulary on the CPU.

Ids past the end of the array may not come.
"""


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen; temperature 0 is greedy, and what has no default but 0, 1 or None is off.

    `repetition_penalty` looks at prompt and answer, `frequency_penalty` and `presence_penalty` at the answer alone.
    `logit_bias` is added to the logits of ids. `logprobs` is how many of the likeliest ids to report beside the chosen
    one. `grammar` names what `mask` holds the answer to: masks of one grammar allow the same.
    """

    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    mask: LogitMask | None = None
    grammar: str | None = None


@dataclass(frozen=True)
class Adapter:
    """An expert's weights as the engine knows them: the digest of their content, and their folder."""

    digest: str
    folder: Path


@dataclass
class Progress:
    """How far a request got; the engine notes it: when its first step began, in `time.monotonic` seconds, how many
    tokens it has generated, whether they were handed over or not, and how many wait behind the one that was read last.

    `cache` is what a response cache had to do with it, where there is one: its answer was there or on the way (hit),
    was looked for in vain (miss), or not looked for (bypass).
    """

    began: float | None = None
    generated: int = 0
    unread: int = 0
    cache: CacheOutcome | None = None


@dataclass(frozen=True)
class Request:
    """One prompt for one expert, or for the bare base when `adapter` is None.

    Requests of one department share what it is due; without a name, the expert stands for it. `timeout` is in seconds,
    for the whole answer. `progress` is for whoever wants to know how far it got. `stop` is where its reader will stop
    reading; the engine itself knows no text. `cache` is for a response cache, where there is one.
    """

    prompt_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    sampling: SamplingParams
    adapter: Adapter | None = None
    department: str | None = None
    timeout: float | None = None
    progress: Progress | None = field(default=None, compare=False)
    stop: tuple[str, ...] = ()
    cache: CachePolicy = "use"
    output_kind: OutputKind = "delta"


@dataclass(frozen=True)
class Token:
    """One generated id; the last one of an answer says why it is the last. An end id is not yielded as text.

    Log probabilities are the model's own, before penalties, temperature and cuts. `at` is when the engine chose it, in
    `time.monotonic` seconds; an engine may not say.
    """

    id: int | None
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    at: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class DeviceInfo:
    """Where the engine computes."""

    device: str
    gpu_name: str | None = None
    dtype: str = "float32"


@dataclass
class EngineStatus:
    """What the engine holds now, and what it has done since it started.

    `expert_bytes` is what experts take that are loaded or being read, of `expert_memory` that they may take.
    `kv_cache_usage` is the share of the cache's blocks that answers hold, from 0 to 1. One that is not `alive` will
    never answer again.
    """

    loaded: set[str] = field(default_factory=set)
    waiting: int = 0
    running: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    expert_bytes: int = 0
    expert_memory: int = 0
    loads: int = 0
    evictions: int = 0
    load_seconds: float = 0.0
    kv_cache_usage: float = 0.0
    alive: bool = True


class Engine(Protocol):
    """Serves many experts from one copy of the base."""

    @property
    def device(self) -> DeviceInfo:
        """Where it computes."""

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""

    @property
    def status(self) -> EngineStatus:
        """Digests of the loaded adapters, and how many requests wait."""

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter before anybody asks it; raise ModelError when it cannot be. It leaves like any other."""

    def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token; closing the generator frees its place. The adapter need not be loaded.

        Raises BusyError when the queue is full.
        """

    async def close(self) -> None:
        """Finish what is running and free the model."""
