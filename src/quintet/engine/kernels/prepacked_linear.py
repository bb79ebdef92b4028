"""Prepacked linear layers: weights in the blocked layout that the CPU's matrix kernels read.

oneDNN multiplies few rows fast by a matrix in blocks. A plain weight of half precision is brought into them at every
call, which for a few tokens takes as long as the product itself, and one of single precision goes to another library,
which is slower at it; here it is done once, and the plain weight is let go. Layers that are given the same input, such
as those of queries, keys and values, are fused: computed as one.

Shapes: T tokens, I inputs, O outputs; V words, E numbers each.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quintet.engine.kernels.int8_linear import Int8Linear, multiplies_int8
from quintet.errors import ModelError

Packing = Literal["blocked", "int8"]
PACK_BATCH_HINT = {torch.float32: 10}
"""For how many rows blocks are chosen, by precision: it matters little but for this one."""


class PackedLinear(nn.Module):
    """A linear layer that cannot be trained, moved or read, only computed with."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(
            linear.weight.detach(), PACK_BATCH_HINT.get(linear.weight.dtype, 1)
        )
        self._bias = None if linear.bias is None else linear.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + b`, `[..., O]`."""
        # What torch.compile calls in a frozen graph; without an operation fused to it.
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]


class FusedLinears(nn.Module):
    """Packed layers of one input, as one of all their outputs, which is computed when the first of them is asked."""

    def __init__(self, layer: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layer = layer
        self._sizes = list(sizes)
        self._x: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}

    def output(self, number: int, x: Tensor) -> Tensor:
        """Return what one of them makes of x, `[..., O]`; each may change its own in place."""
        if x is not self._x or number not in self._outputs:
            self._x, self._outputs = x, dict(enumerate(self.layer(x).split(self._sizes, -1)))
        output = self._outputs.pop(number)
        if not self._outputs:
            self._x = None
        return output


class FusedLinearPart(nn.Module):
    """One of the layers that are computed as one."""

    def __init__(self, linear: nn.Linear, fused: FusedLinears, number: int) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.fused, self._number = fused, number

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + b`, `[..., O]`."""
        return self.fused.output(self._number, x)


def packing_of(dtype: torch.dtype, device: str, *, int8: bool) -> Packing | None:
    """Return how linear layers are packed on a device, if at all; raise ModelError where int8 is not computed well."""
    if int8:
        if device != "cpu" or not multiplies_int8():
            raise ModelError("int8 needs a CPU with AVX2 or VNNI instructions; serve in bfloat16 or float32 here")
        return "int8"
    return "blocked" if device == "cpu" and computes(dtype) else None


def computes(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of a precision as such."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype is torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype is torch.float32


@contextmanager
def finding_fusable(model: nn.Module) -> Iterator[list[tuple[str, ...]]]:
    """Fill a list, at the end, with the paths of linear layers that were given the same input one after the other."""
    found: list[tuple[str, ...]] = []
    calls: list[tuple[str, Tensor]] = []
    with ExitStack() as hooks:
        for path, layer in model.named_modules():
            if type(layer) is nn.Linear:
                hook = layer.register_forward_pre_hook(lambda _, args, path=path: calls.append((path, args[0])))
                hooks.callback(hook.remove)
        yield found
    times = Counter(path for path, _ in calls)
    for _, group in groupby(calls, lambda call: id(call[1])):
        paths = tuple(path for path, _ in group if times[path] == 1)
        found += [paths] if len(paths) > 1 else []


def pack(model: nn.Module, packing: Packing, fused: Collection[tuple[str, ...]] = (), threads: int = 1) -> None:
    """Replace the model's linear layers one by one, so that memory holds only one of them for each thread twice.

    The layers of PEFT's adapters stay as they are, and so do those beneath that it asks for more than to compute. A
    weight that another module shares, such as embeddings that are the head's too, is rounded or stays as well: it would
    be there twice for good. `fused` are paths of layers that are always given the same input, in turn.
    """
    make = PackedLinear if packing == "blocked" else Int8Linear
    shared = _shared(model) if packing == "blocked" else set()
    adapted = {path: layer for path, layer in model.named_modules() if hasattr(layer, "base_layer")}
    packable = {
        path
        for path, module in model.named_modules()
        if type(module) is nn.Linear and module.weight.data_ptr() not in shared and _is_base(path, adapted)
    }
    groups = [paths for paths in fused if packable >= set(paths)]
    groups += [(path,) for path in sorted(packable.difference(*groups))]
    # What a library does to bring weights into its order is one thread's work.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(_replace, model, make), groups))


def _replace(model: nn.Module, make: type[PackedLinear] | type[Int8Linear], paths: Sequence[str]) -> None:
    """Pack a layer, or several as one."""
    linears: list[Any] = [model.get_submodule(path) for path in paths]
    if len(paths) == 1:
        model.set_submodule(paths[0], make(linears[0]))
        return
    has_bias = any(linear.bias is not None for linear in linears)
    with torch.device("meta"):
        joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears), bias=has_bias)
    weights: list[Tensor] = [linear.weight for linear in linears]
    joined.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
    if has_bias:
        biases: list[Tensor] = [torch.zeros(len(one.weight)) if one.bias is None else one.bias for one in linears]
        joined.bias = nn.Parameter(torch.cat(biases).to(joined.weight.dtype), requires_grad=False)
    fused = FusedLinears(make(joined), [linear.out_features for linear in linears])
    for number, (path, linear) in enumerate(zip(paths, linears, strict=True)):
        model.set_submodule(path, FusedLinearPart(linear, fused, number))


def _is_base(path: str, adapted: Mapping[str, Any]) -> bool:
    """Whether a layer is the base's own, and is computed with, not read, by what adapts it, if anything does."""
    above = next((layer for layer in adapted if path.startswith(f"{layer}.")), None)
    if above is None:
        return True
    return path == f"{above}.base_layer" and not getattr(adapted[above], "lora_variant", None)


class StoredEmbedding(nn.Module):
    """An embedding whose table stays as short as it is stored: only the rows that are looked up are `dtype`."""

    def __init__(self, embedding: nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__()
        self._table_VE, self._dtype = embedding.weight.detach().clone(), dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of these ids, `[..., E]`."""
        return nn.functional.embedding(ids, self._table_VE).to(self._dtype)


def release_mmap(model: nn.Module, dtype: torch.dtype) -> None:
    """Copy what is left of plain weights, none in less than `dtype`, and let go of the file they are mapped from.

    Tables of embeddings, which are a tenth of a small model, do stay in less.
    """
    for path, module in list(model.named_modules()):
        if type(module) is nn.Embedding and torch.promote_types(module.weight.dtype, dtype) is not module.weight.dtype:
            model.set_submodule(path, StoredEmbedding(module, dtype))
    for weight in model.parameters():
        weight.data = weight.data.to(torch.promote_types(weight.dtype, dtype), copy=True)


def _shared(model: nn.Module) -> set[int]:
    """Return where the weights are that more than one module has."""
    places = Counter(own.data_ptr() for module in model.modules() for own in module.parameters(recurse=False))
    return {place for place, count in places.items() if count > 1}
