"""What an expert is once it is read. Knows neither files nor batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from quintet.engine.lora.multi_lora import Parts
from quintet.engine.types import LayerShape


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that is ready to compute: virtual tokens in front, by states or embeddings; parts; or a whole model.

    `states` has the keys and values of each layer, `[virtual, K, D]`; `embeddings` is `[virtual, hidden]`.
    """

    num_virtual_tokens: int = 0
    parts: Parts = field(default_factory=dict)
    states: Mapping[int, tuple[Tensor, Tensor]] | None = None
    embeddings: Tensor | None = None
    model: Any = None


@dataclass(frozen=True)
class Base:
    """What experts are read for: a base's modules without their weights, what its layers keep, and where it computes.

    `weights` gives a view with plain weights to whoever needs them; its modules are never changed. `load` reads a
    folder with weights of its own.
    """

    skeleton: PreTrainedModel
    shapes: Mapping[int, LayerShape]
    device: str
    weights: Callable[[], PreTrainedModel]
    load: Callable[[str], PreTrainedModel]
