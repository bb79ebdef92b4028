"""What an expert is once it is read. Knows neither files nor batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from quintet.engine.mixed_linear import Parts


@dataclass(frozen=True)
class Expert:
    """One expert, ready to compute: `virtual` tokens in front, by states or embeddings; parts; or a model of its own.

    `states` has the keys and values of each layer, `[virtual, K, D]`; `embeddings` is `[virtual, hidden]`.
    """

    virtual: int = 0
    parts: Parts = field(default_factory=dict)
    states: Mapping[int, tuple[Tensor, Tensor]] | None = None
    embeddings: Tensor | None = None
    model: Any = None
