"""How much memory experts take, and how much they may. Reads the heads of files, never weights."""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quintet.engine.adapters.types import LoadedAdapter
from quintet.engine.kernels.int8_linear import Int8Linear
from quintet.engine.lora.multi_lora import LoRAWeights
from quintet.machine import memory_limit

SHARE = 0.5
"""Of what a base and its store of keys and values leave; a step's own numbers, and whoever reads, need some too."""
LEAST = 256 * 2**20


def affordable_bytes(device: str, taken: int) -> int:
    """Return how many bytes experts may take, where `taken` are for the base and its store."""
    if device.startswith("cuda"):
        left: float = torch.cuda.mem_get_info(device)[0]
    else:
        left = memory_limit() - taken
    return max(LEAST, int(SHARE * left))


def stored_bytes(folder: Path, itemsize: int) -> int:
    """Return how many bytes the weights in a folder take at a number's size; what cannot be read counts for nothing."""
    return sum(_numbers(file) for file in folder.glob("*.safetensors")) * itemsize


def held_bytes(expert: LoadedAdapter, shared: Iterable[Tensor]) -> int:
    """Return how many bytes an expert takes besides tensors that it shares with others."""
    others = {id(tensor) for tensor in shared}
    own = {id(tensor): tensor for tensor in _tensors(expert) if id(tensor) not in others}
    return sum(map(_bytes, own.values())) + (0 if expert.model is None else _rounded_bytes(expert.model))


def tensors_of(model: torch.nn.Module) -> Iterator[Tensor]:
    """Yield parameters, buffers, and what packed layers keep in their stead."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def model_bytes(model: torch.nn.Module) -> int:
    """Return how many bytes a model takes."""
    own = {id(tensor): tensor for tensor in tensors_of(model)}
    return sum(map(_bytes, own.values())) + _rounded_bytes(model)


def _tensors(expert: LoadedAdapter) -> Iterator[Tensor]:
    for part in expert.parts.values():
        yield from (part.down_RI, part.up_RO) if isinstance(part, LoRAWeights) else (part.factors,)
    for states in (expert.states or {}).values():
        yield from states
    if expert.embeddings is not None:
        yield expert.embeddings
    if expert.model is not None:
        yield from tensors_of(expert.model)


def _rounded_bytes(model: torch.nn.Module) -> int:
    """Return how many bytes weights of 8 bits take, which no tensor shows."""
    return sum(layer.weight_bytes for layer in model.modules() if isinstance(layer, Int8Linear))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _numbers(file: Path) -> int:
    """Return how many numbers a file holds: eight bytes say how long its head is, which lists their shapes."""
    head: dict[str, Any] = {}
    with suppress(OSError, ValueError), file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        head = json.loads(stream.read(min(length, file.stat().st_size)))
    with suppress(AttributeError, KeyError, TypeError):
        return sum(math.prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")
    return 0
