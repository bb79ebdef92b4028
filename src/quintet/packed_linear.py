"""Linear layers whose weights lie in memory as the CPU's matrix kernels read them. Knows no experts and no batches.

oneDNN has an order of its own for a matrix of less than single precision. A plain weight is brought into it at every
call, which for a few tokens takes as long as the product itself; here it is done once, and the plain weight is let go.

Shapes: T tokens, I inputs, O outputs.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quintet.errors import ModelError

Packing = Literal["half", "int8"]
ZERO_POINT = 128
"""Of activations: oneDNN multiplies unsigned by signed, and is slow where both are signed."""


class PackedLinear(nn.Module):
    """A linear layer of half precision that cannot be trained, moved or read, only computed with."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)
        self._bias = None if linear.bias is None else linear.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + b`, `[..., O]`."""
        # What torch.compile calls in a frozen graph; without an operation fused to it.
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights, one scale an output, and of 8-bit activations, one scale a token.

    Rounding to nearest over the largest absolute value, both (Dettmers et al. 2022, arXiv:2208.07339, section 2.1:
    vector-wise quantisation). A token's result depends on no other token.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight_OI = linear.weight.detach()
        self._scale_O = _scale(weight_OI).squeeze(-1)
        # In place: what takes long here is touching new memory.
        rounded_OI = weight_OI.to(torch.float32, copy=True).div_(self._scale_O[:, None]).round_().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded_OI, None)
        self._zero_O = torch.zeros(self.out_features, dtype=torch.int32)
        self._bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + b`, `[..., O]`, in the precision of x."""
        x_TI = x.flatten(0, -2).float()
        scale_T1 = _scale(x_TI)
        rounded_TI = (x_TI / scale_T1).round_().add_(ZERO_POINT).to(torch.uint8)
        out_TO = torch.ops.onednn.qlinear_pointwise(
            rounded_TI, 1.0, ZERO_POINT, self._weight, self._scale_O, self._zero_O, None, 1.0, 0, torch.float32,
            "none", [], "",
        ).mul_(scale_T1)  # fmt: skip
        if self._bias is not None:
            out_TO += self._bias
        return out_TO.to(x.dtype).view(*x.shape[:-1], self.out_features)  # type: ignore[no-any-return]


def _scale(rows: Tensor) -> Tensor:
    """Return what a step of 127 is worth in each row."""
    largest: Tensor = rows.abs().amax(-1, keepdim=True).float()
    return largest.clamp_(min=1e-12).div_(127)


def packing_of(dtype: torch.dtype, device: str, *, int8: bool) -> Packing | None:
    """Return how linear layers are packed on a device, if at all; raise ModelError where int8 is not computed well."""
    if int8:
        # Without these instructions sums of products are kept in 16 bits, and overflow.
        if device != "cpu" or not torch.cpu._is_vnni_supported():
            raise ModelError("int8 needs a CPU with VNNI instructions; serve in bfloat16 or float32 here")
        return "int8"
    return "half" if device == "cpu" and computes(dtype) else None


def computes(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of a half precision as such."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float16 and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def pack(model: nn.Module, packing: Packing) -> None:
    """Replace the model's linear layers one by one, so that memory holds only one of them twice.

    The layers of PEFT's adapters stay as they are, and so do those beneath that it asks for more than to compute. In
    half precision, a weight that another module shares, such as embeddings that are the head's too, stays as well: it
    would be there twice for good.
    """
    shared = _shared(model) if packing == "half" else set()
    adapted = {path: layer for path, layer in model.named_modules() if hasattr(layer, "base_layer")}
    for path, module in list(model.named_modules()):
        if type(module) is not nn.Linear or module.weight.data_ptr() in shared or not _is_base(path, adapted):
            continue
        model.set_submodule(path, PackedLinear(module) if packing == "half" else Int8Linear(module))


def _is_base(path: str, adapted: Mapping[str, Any]) -> bool:
    """Whether a layer is the base's own, and is computed with, not read, by what adapts it, if anything does."""
    above = next((layer for layer in adapted if path.startswith(f"{layer}.")), None)
    if above is None:
        return True
    return path == f"{above}.base_layer" and not getattr(adapted[above], "lora_variant", None)


def unmap(model: nn.Module) -> None:
    """Copy what is left of plain weights, which lets go of the file that all of them are mapped from."""
    for weight in model.parameters():
        weight.data = weight.data.clone()


def _shared(model: nn.Module) -> set[int]:
    """Return where the weights are that more than one module has."""
    places = Counter(own.data_ptr() for module in model.modules() for own in module.parameters(recurse=False))
    return {place for place, count in places.items() if count > 1}
