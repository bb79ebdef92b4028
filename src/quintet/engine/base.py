"""What an engine is, to those who use one. Imports no compute library."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int | None = None


@dataclass(frozen=True)
class Adapter:
    """An expert's weights as the engine knows them: the digest of their content, and their folder."""

    digest: str
    folder: Path


@dataclass(frozen=True)
class Request:
    """One prompt for one expert, or for the bare base when `adapter` is None."""

    prompt_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    sampling: Sampling
    adapter: Adapter | None = None


@dataclass(frozen=True)
class Token:
    """One generated id; the last one of an answer says why it is the last. An end id is not yielded as text."""

    id: int | None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class DeviceInfo:
    """Where the engine computes."""

    device: str
    gpu_name: str | None = None
    dtype: str = "float32"


@dataclass
class EngineStatus:
    """What the engine holds now."""

    loaded: set[str] = field(default_factory=set)
    waiting: int = 0


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
        """Load an adapter, once; raise ModelError when its files cannot be used."""

    def generate(self, request: Request) -> AsyncGenerator[Token]:
        """Yield the answer token by token; closing the generator frees its place.

        Raises BusyError when the queue is full.
        """

    async def close(self) -> None:
        """Finish what is running and free the model."""
