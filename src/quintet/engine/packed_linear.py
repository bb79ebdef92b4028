"""Linear layers whose weights lie in memory as the CPU's matrix kernels read them. Knows no experts and no batches.

oneDNN has an order of its own for a matrix of half precision. A plain weight is brought into it at every call, which
for a few tokens takes as long as the product itself; here it is done once, and the plain weight is let go.
"""

from collections import Counter

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer of half precision that cannot be trained, moved or read, only computed with."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + b`, `[..., out_features]`."""
        # What torch.compile calls in a frozen graph; without an operation fused to it.
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]


def can_pack(dtype: torch.dtype, device: str) -> bool:
    """Whether linear layers gain by it here: in half precision, on a CPU that computes in it."""
    if device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float16 and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def pack(model: nn.Module) -> None:
    """Replace the model's linear layers of half precision, one by one, so that memory holds only one of them twice.

    A weight that another module shares, such as embeddings that are the head's too, stays as it is: it would be there
    twice for good.
    """
    shared = _shared(model)
    for path, module in list(model.named_modules()):
        if type(module) is not nn.Linear or module.weight.data_ptr() in shared:
            continue
        if can_pack(module.weight.dtype, str(module.weight.device)):
            model.set_submodule(path, PackedLinear(module))


def _shared(model: nn.Module) -> set[int]:
    """Return where the weights are that more than one module has."""
    places = Counter(own.data_ptr() for module in model.modules() for own in module.parameters(recurse=False))
    return {place for place, count in places.items() if count > 1}
