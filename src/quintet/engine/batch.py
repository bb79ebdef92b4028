"""What passes between the one who decides, the one who accounts and the one who computes. Plain values, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from quintet.engine.base import Adapter


@dataclass(frozen=True)
class Chunk:
    """A part of one sequence that a step computes.

    `ids` are the tokens to compute, `start` is the place of the first of them in the sequence: 0 is its first prompt
    token. An expert with virtual tokens has `virtual` places of the cache in front of that. `blocks` are the cache
    blocks of the sequence in order, enough for `virtual + start + len(ids)` places. Logits are wanted of the last
    token alone, and not before the prompt's last chunk.
    """

    expert: str | None
    ids: tuple[int, ...]
    start: int
    virtual: int
    blocks: tuple[int, ...]
    wants_logits: bool


class Runner(Protocol):
    """Computes steps over one base and the experts that are loaded; knows nothing of requests and queues."""

    block_size: int
    blocks: int
    context_length: int

    def load(self, adapter: Adapter) -> int:
        """Load an expert and return how many virtual tokens it has; raise ModelError when it cannot be used."""

    def unload(self, digest: str) -> None:
        """Forget an expert; no chunk of it may come any more."""

    def step(self, chunks: Sequence[Chunk]) -> Any:
        """Compute all chunks as one batch; return float32 logits `[chunks that want them, vocabulary]`, in order."""
