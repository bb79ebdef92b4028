"""Memory: zeros that take none before they are written to, and sizes that repeat."""

from math import prod

import numpy as np
import torch
from torch import Tensor


def lazy_zeros(shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Return zeros; on a CPU they take no memory before they are written to, as torch's own would."""
    if torch.device(device).type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    return torch.from_numpy(np.zeros(prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)


def rounded(count: int, least: int) -> int:
    """Return the next size that graphs are made for: at most a quarter more, so that few sizes do for all counts."""
    step = max(least, (1 << max(count, 1).bit_length() - 1) // 4)
    return -(-count // step) * step
