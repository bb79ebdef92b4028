"""What passes between the one who decides, the one who accounts and the one who computes. Plain values, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from quintet.engine.interface import Adapter


@dataclass(frozen=True)
class Chunk:
    """A part of one sequence that a step computes.

    `ids` are the tokens to compute, `start` is the place of the first of them in the sequence: 0 is its first prompt
    token. An adapter with virtual tokens has `num_virtual_tokens` places of the cache in front of that. `blocks` are
    the cache blocks of the sequence in order, enough for `num_virtual_tokens + start + len(ids)` places. Logits are
    wanted of the last token alone, and not before the prompt's last chunk.
    """

    expert: str | None
    ids: tuple[int, ...]
    start: int
    num_virtual_tokens: int
    blocks: tuple[int, ...]
    wants_logits: bool


@dataclass(frozen=True)
class Prepared:
    """An expert that was read and is not in use yet: its virtual tokens, its `bytes` of memory, and what it is made of.

    `content` is the runner's own affair.
    """

    num_virtual_tokens: int
    bytes: int
    content: Any = None


class Runner(Protocol):
    """Computes steps over one base and the experts that are installed; knows nothing of requests and queues.

    `expert_memory` is how many bytes experts may take together, unless somebody knows better. `measure` and `prepare`
    are called by one thread, all else by another.
    """

    block_size: int
    blocks: int
    context_length: int
    expert_memory: int

    def measure(self, adapter: Adapter) -> int:
        """Return about how many bytes an expert takes, without reading it; nothing is raised for broken files."""

    def prepare(self, adapter: Adapter) -> Prepared:
        """Read an expert, however long it takes; raise ModelError when it cannot be used."""

    def install(self, digest: str, prepared: Prepared) -> None:
        """Let chunks of a prepared expert come from now on; takes no longer than a step may pause."""

    def unload(self, digest: str) -> Any:
        """Forget an expert, no chunk of which may come any more; return what is freed when nobody holds it."""

    def step(self, chunks: Sequence[Chunk]) -> Any:
        """Compute all chunks as one batch; return float32 logits `[chunks that want them, vocabulary]`, in order."""


PAGED = "quintet_paged"
"""The name under which transformers knows this attention."""


TAKE_ANOTHER_BASE = "name another base_model in quintet.yaml (docs/base-models.md lists those that are tested)"


class LayerShape(NamedTuple):
    """What one layer keeps of a token: `[heads, key_size]` and `[heads, value_size]`."""

    heads: int
    key_size: int
    value_size: int
