"""Two models of one shape → the low-rank delta from one to the other, as a LoRA adapter. Knows no experts.

Shapes: I inputs, O outputs, K singular values, R ranks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from quintet.errors import ExportError
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.models.peft_model import settle_adapter_config

WEIGHTS_FILE = "adapter_model.safetensors"
LINEAR, EMBEDDINGS, VECTORS, OTHERS = "linear layers", "embeddings", "norms and biases", "other weights"
"""The kinds of weights; LoRA in the shared batch has a place for the first alone."""
DIGITS = 4
Progress = Callable[[int, int], None]
"""Called with the weights done and the weights there are."""


@dataclass(frozen=True)
class LowRankDelta:
    """A matrix as the product of `up`, `[O, R]`, and `down`, `[R, I]`, and the share of its squared norm they keep."""

    down: Tensor
    up: Tensor
    kept: float


@dataclass(frozen=True)
class Fit:
    """How much of what full fine-tuning changed is in a delta, as shares of squared Frobenius norms.

    `kept` is that of all changed linear layers together, `worst` that of the layer of which the least is kept.
    `not_held` is kind of weight → its share of all that changed, for those that a delta of linear layers has no place
    for. A head that is tied to the embeddings counts twice: as a linear layer, and as embeddings.
    """

    rank: int
    layers: int
    kept: float
    worst: float
    worst_layer: str
    not_held: Mapping[str, float]


def cut(matrix: Tensor, rank: int) -> LowRankDelta:
    """Return the nearest matrix of a rank to one, `[O, I]`: its largest singular values (Eckart and Young 1936)."""
    left_OK, values_K, right_KI = torch.linalg.svd(matrix, full_matrices=False)
    squares_K = values_K.square()
    kept = float(squares_K[:rank].sum() / squares_K.sum())
    return LowRankDelta(right_KI[:rank].clone(), left_OK[:, :rank] * values_K[:rank], kept)


def check_rank(model: nn.Module, rank: int) -> None:
    """Raise ExportError for a rank at which the linear layers' deltas have as many numbers as the layers."""
    shapes = [tuple(weight.shape) for _, kind, weight in _weights(model) if kind == LINEAR]
    whole = sum(outputs * inputs for outputs, inputs in shapes)

    def numbers(rank: int) -> int:
        return sum(min(rank, *shape) * sum(shape) for shape in shapes)

    if numbers(rank) >= whole:
        largest = next(fewer for fewer in range(min(rank, max(map(min, shapes))), -1, -1) if numbers(fewer) < whole)
        raise ExportError(
            f"--as-delta {rank}: deltas of this rank have {numbers(rank):,} numbers, the linear layers that they stand "
            f"for {whole:,}: nothing is won; take a rank of at most {largest}"
        )


@torch.inference_mode()
def decompose(
    base: nn.Module, full: nn.Module, rank: int, progress: Progress | None = None
) -> tuple[dict[str, LowRankDelta], Fit]:
    """Return each changed linear layer's delta, by its path, and how well they fit.

    A layer whose smaller side is less than the rank has that many. Raises ExportError when no linear layer changed.
    """
    parts: dict[str, LowRankDelta] = {}
    sizes: dict[str, float] = {}
    changed: dict[str, float] = defaultdict(float)
    pairs = list(zip(_weights(base), _weights(full), strict=True))
    for done, ((path, kind, before), (_, _, after)) in enumerate(pairs, start=1):
        difference = after.float() - before.float()
        size = difference.square().sum(dtype=torch.float64).item()
        changed[kind] += size
        if kind == LINEAR and size:
            parts[path], sizes[path] = cut(difference, rank), size
        if progress is not None:
            progress(done, len(pairs))
    if not parts:
        raise ExportError("all linear layers are the base's own: there is nothing to make a delta of")
    return parts, _fit(rank, parts, sizes, changed)


def _fit(rank: int, parts: Mapping[str, LowRankDelta], sizes: Mapping[str, float], changed: Mapping[str, float]) -> Fit:
    worst = min(parts, key=lambda path: parts[path].kept)
    kept = sum(part.kept * sizes[path] for path, part in parts.items()) / changed[LINEAR]
    whole = sum(changed.values())
    not_held = {kind: round(size / whole, DIGITS) for kind, size in changed.items() if kind != LINEAR and size}
    return Fit(rank, len(parts), round(kept, DIGITS), round(parts[worst].kept, DIGITS), worst, not_held)


def _weights(model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Yield the module, the kind and the values of each weight, a linear layer's as `[O, I]`; a tied one for each."""
    for path, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(module, nn.Linear | Conv1D) and name == "weight":
                yield path, LINEAR, weight.T if isinstance(module, Conv1D) else weight
            elif isinstance(module, nn.Embedding):
                yield path, EMBEDDINGS, weight
            else:
                yield path, VECTORS if weight.dim() == 1 else OTHERS, weight


def write_adapter(
    parts: Mapping[str, LowRankDelta], rank: int, base_model: str, dtype: torch.dtype, folder: Path
) -> None:
    """Write the deltas in PEFT's format, with a scaling of 1, and their weights in the dtype."""
    narrow = {path: len(part.down) for path, part in parts.items() if len(part.down) < rank}
    LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
        r=rank,
        lora_alpha=rank,
        target_modules=list(parts),
        rank_pattern=narrow,
        alpha_pattern=dict(narrow),
    ).save_pretrained(str(folder))
    settle_adapter_config(folder / ADAPTER_CONFIG, base_model)
    tensors = {}
    for path, part in parts.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = part.down.to(dtype).contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = part.up.to(dtype).contiguous()
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
