"""Linear layers of 8-bit numbers, by the library that multiplies those well on this CPU. Knows no models.

Shapes: T tokens, I inputs, O outputs.
"""

import warnings
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor, nn

WEIGHT_STEPS = 127
_CACHED = 256
"""Rows that are rounded at once: what that takes stays in the CPU's cache. To touch new memory takes longer."""
_QUIET = Lock()
"""For one thread at a time: the filters of warnings are the process's own."""


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights, one scale an output, and of activations of 8 bits or 7, one scale a token.

    Rounding to nearest over the largest absolute value, both (Dettmers et al. 2022, arXiv:2208.07339, section 2.1:
    vector-wise quantisation). A token's result depends on no other token.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight_OI = linear.weight.detach()
        rounded_OI, scale_O1 = torch.empty(weight_OI.shape, dtype=torch.int8), torch.empty(len(weight_OI), 1)
        for first in range(0, len(weight_OI), _CACHED):
            rows = slice(first, first + _CACHED)
            scale_O1[rows] = _scale(weight_OI[rows], WEIGHT_STEPS)
            rounded_OI[rows] = weight_OI[rows].to(torch.float32, copy=True).div_(scale_O1[rows]).round_()
        product = OneDNNProduct if has_vnni() else FBGEMMProduct
        self._product: Int8Product = product(rounded_OI, scale_O1.squeeze(-1))
        self._bias = None if linear.bias is None else linear.bias.detach().float()

    @property
    def weight_bytes(self) -> int:
        """How many bytes the weights take, of which the library's own object does not tell."""
        return self.in_features * self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + b`, `[..., O]`, in the precision of x."""
        x_TI = x.flatten(0, -2).float()
        scale_T1 = _scale(x_TI, self._product.steps)
        out_TO = self._product(x_TI / scale_T1).mul_(scale_T1)
        if self._bias is not None:
            out_TO += self._bias
        return out_TO.to(x.dtype).view(*x.shape[:-1], self.out_features)


class Int8Product(Protocol):
    """A matrix of 8-bit numbers in some library's own order, to be multiplied by."""

    steps: int

    def __call__(self, steps_TI: Tensor) -> Tensor:
        """Return `steps_TI` rounded, times the matrix, `[T, O]` in single precision; none is beyond `steps`."""


class OneDNNProduct:
    """For CPUs with VNNI instructions: unsigned by signed, since oneDNN is slow where both are signed."""

    steps = 127
    _ZERO_POINT = 128

    def __init__(self, rounded_OI: Tensor, scale_O: Tensor) -> None:
        self._weight = torch.ops.onednn.qlinear_prepack(rounded_OI, None)
        self._scale_O, self._zero_O = scale_O, torch.zeros(len(scale_O), dtype=torch.int32)

    def __call__(self, steps_TI: Tensor) -> Tensor:
        """Return the product, `[T, O]`."""
        unsigned_TI = steps_TI.round_().add_(self._ZERO_POINT).to(torch.uint8)
        return torch.ops.onednn.qlinear_pointwise.default(  # type: ignore[no-any-return]
            unsigned_TI, 1.0, self._ZERO_POINT, self._weight, self._scale_O, self._zero_O, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip


class FBGEMMProduct:
    """For CPUs with AVX2 alone, which add two products in 16 bits: those of 8 bits overflow, 7 by 8 bits never do."""

    steps = 63
    _ZERO_POINT = 64

    def __init__(self, rounded_OI: Tensor, scale_O: Tensor) -> None:
        zero_O = torch.zeros(len(scale_O), dtype=torch.long)
        # Whose order the next weight is brought into; nothing else in this process asks.
        torch.backends.quantized.engine = "fbgemm"
        with _QUIET, warnings.catch_warnings():
            # Nothing else makes what this library takes, in the versions of torch that we allow.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning)
            quantised = torch._make_per_channel_quantized_tensor(rounded_OI, scale_O.double(), zero_O, 0)
        self._weight = torch.ops.quantized.linear_prepack(quantised, None)

    def __call__(self, steps_TI: Tensor) -> Tensor:
        """Return the product, `[T, O]`."""
        # The overload by its name: to find it for the arguments takes as long as a small operation.
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        return multiply(steps_TI, 1.0, self._ZERO_POINT, self._weight)  # type: ignore[no-any-return]


def _scale(rows: Tensor, steps: int) -> Tensor:
    """Return what a step is worth in each row, of which the largest number takes `steps`."""
    return rows.abs().amax(-1, keepdim=True).float().clamp_(min=1e-12).div_(steps)


def multiplies_int8() -> bool:
    """Whether this CPU multiplies matrices of 8-bit numbers, and a library is there that does."""
    return has_vnni() or (torch.cpu._is_avx2_supported() and "fbgemm" in torch.backends.quantized.supported_engines)


def has_vnni() -> bool:
    """Whether this CPU adds products of 8-bit numbers in 32 bits at once."""
    return bool(torch.cpu._is_vnni_supported())
