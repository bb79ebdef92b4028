"""A runner whose answers depend on every place of the cache that a sequence sees: whoever miscounts, changes them."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from quintet.engine.interface import Adapter, SamplingParams
from quintet.engine.types import Chunk, Prepared

VOCABULARY = 50


def logits_after(expert: str | None, num_virtual_tokens: int, ids: Sequence[int]) -> list[float]:
    """What the fake model says after these tokens."""
    return _logits(
        [*_num_virtual_tokens(expert, num_virtual_tokens), *((expert, place, id_) for place, id_ in enumerate(ids))]
    )


def answer_alone(expert: str | None, num_virtual_tokens: int, prompt: Sequence[int], tokens: int) -> list[int]:
    """The greedy answer, without any engine."""
    ids = list(prompt)
    for _ in range(tokens):
        logits = logits_after(expert, num_virtual_tokens, ids)
        ids.append(logits.index(max(logits)))
    return ids[len(prompt) :]


def _num_virtual_tokens(expert: str | None, num_virtual_tokens: int) -> list[tuple[str | None, int, int]]:
    return [(expert, place - num_virtual_tokens, -1) for place in range(num_virtual_tokens)]


def _logits(seen: list[tuple[str | None, int, int] | None]) -> list[float]:
    random = Random(crc32(repr(seen).encode()))
    return [4 * random.random() for _ in range(VOCABULARY)]


class FakeRunner:
    """Writes what it computes into places, and reads all of a sequence's places back to say what comes next."""

    def __init__(
        self,
        blocks: int = 64,
        block_size: int = 4,
        context_length: int = 256,
        num_virtual_tokens: dict[str, int] | None = None,
        *,
        sizes: Mapping[str, int] | None = None,
        expert_memory: int = 1000,
        before_step: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self.context_length = context_length
        self.steps: list[list[Chunk]] = []
        self.expert_memory = expert_memory
        self.loaded: list[str] = []
        self._num_virtual_tokens = num_virtual_tokens or {}
        self._sizes = sizes or {}
        self._before_step = before_step
        self._places: list[tuple[str | None, int, int] | None] = [None] * (blocks * block_size)

    def measure(self, adapter: Adapter) -> int:
        return self._sizes.get(adapter.digest, 1)

    def prepare(self, adapter: Adapter) -> Prepared:
        return Prepared(self._num_virtual_tokens.get(adapter.digest, 0), self._sizes.get(adapter.digest, 1))

    def install(self, digest: str, prepared: Prepared) -> None:
        assert digest not in self.loaded
        self.loaded.append(digest)

    def unload(self, digest: str) -> Any:
        self.loaded.remove(digest)

    def step(self, chunks: Sequence[Chunk]) -> Tensor:
        self.steps.append(list(chunks))
        self._before_step(len(self.steps))
        for chunk in chunks:
            assert chunk.ids
            assert chunk.expert is None or chunk.expert in self.loaded
            self._write(chunk)
        return torch.tensor([_logits(self._read(chunk)) for chunk in chunks if chunk.wants_logits])

    def _write(self, chunk: Chunk) -> None:
        if chunk.start == 0:
            for place, state in enumerate(_num_virtual_tokens(chunk.expert, chunk.num_virtual_tokens)):
                self._places[self._where(chunk, place)] = state
        for place, id_ in enumerate(chunk.ids, chunk.start):
            self._places[self._where(chunk, chunk.num_virtual_tokens + place)] = (chunk.expert, place, id_)

    def _read(self, chunk: Chunk) -> list[tuple[str | None, int, int] | None]:
        end = chunk.num_virtual_tokens + chunk.start + len(chunk.ids)
        return [self._places[self._where(chunk, place)] for place in range(end)]

    def _where(self, chunk: Chunk, place: int) -> int:
        return chunk.blocks[place // self.block_size] * self.block_size + place % self.block_size


def greedy(tokens: int = 8) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, temperature=0)
