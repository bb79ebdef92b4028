"""Attention for transformers' own models over a paged store of keys and values. Knows nothing of experts.

A model whose attention is `PAGED` computes one row of tokens of many sequences, `[1, T]`. Each of its layers writes
the new keys and values into the store, and each token attends to the places of its own sequence.

Shapes: T tokens of a step, N sequences, L places, H query heads, K key/value heads, D the size of a head.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from quintet.engine.memory import lazy_zeros, rounded
from quintet.engine.types import PAGED, TAKE_ANOTHER_BASE, LayerShape
from quintet.errors import ModelError

LEAST_READ = 64
"""Places, where sequences are read as if they were of few lengths."""


@dataclass(frozen=True)
class Options:
    """How a layer attends: logits times `scaling`, capped by tanh at `softcap`, over the last `window` places."""

    scaling: float
    softcap: float | None = None
    window: int | None = None


@dataclass(frozen=True)
class Span:
    """Tokens of one sequence that follow each other: rows of the step from `row`, places of the sequence from `start`.

    `blocks` are the store's blocks of the sequence, in order.
    """

    row: int
    count: int
    start: int
    blocks: tuple[int, ...]

    @property
    def end(self) -> int:
        """The place behind the last token."""
        return self.start + self.count


class PagedStore:
    """Keys and values of every layer, `[blocks x block_size, K, D]`: a block's places follow each other."""

    def __init__(
        self,
        shapes: Mapping[int, LayerShape],
        blocks: int,
        block_size: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.shapes, self.blocks, self.block_size = dict(shapes), blocks, block_size
        places = blocks * block_size
        self._layers = {
            layer: (
                lazy_zeros((places, shape.heads, shape.key_size), device, dtype),
                lazy_zeros((places, shape.heads, shape.value_size), device, dtype),
            )
            for layer, shape in shapes.items()
        }

    @property
    def bytes(self) -> int:
        """How much memory it takes when all of it was written to."""
        return sum(tensor.nbytes for tensors in self._layers.values() for tensor in tensors)

    def write(self, layer: int, slots_T: Tensor, keys_TKD: Tensor, values_TKD: Tensor) -> None:
        """Put the keys and values of one layer into places of the store."""
        keys, values = self._layers[layer]
        keys.index_copy_(0, slots_T, keys_TKD.to(keys.dtype))
        values.index_copy_(0, slots_T, values_TKD.to(values.dtype))

    def read(self, layer: int, slots_NL: Tensor) -> tuple[Tensor, Tensor]:
        """Return copies of the keys and values at these places, `[N, K, L, D]` each."""
        keys, values = self._layers[layer]
        flat = slots_NL.flatten()
        shape = (*slots_NL.shape, keys.shape[1], -1)
        return (
            keys.index_select(0, flat).view(shape).transpose(1, 2),
            values.index_select(0, flat).view(shape).transpose(1, 2),
        )

    def slots(self, blocks: Sequence[int], start: int, end: int) -> list[int]:
        """Return where the places from `start` to `end` of a sequence with these blocks are."""
        size = self.block_size
        return [blocks[place // size] * size + place % size for place in range(start, end)]


class Reads(NamedTuple):
    """What queries of N sequences attend to: places `[N, L]`, and what is added to the logits, `[N, 1, T or 1, L]`."""

    slots_NL: Tensor
    mask: Tensor | None


class AttentionStep(Protocol):
    """What a model's layers call through the attention function."""

    def attend(self, layer: int, q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, options: Options) -> Tensor:
        """Attend in one layer and return `[T, H, D]`."""


class ShapeProbe:
    """A step of one token that only learns what each layer keeps of it, and how far back it looks."""

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}
        self.windows: dict[int, int | None] = {}

    def attend(self, layer: int, q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, options: Options) -> Tensor:
        """Note the layer's shape and window and return zeros `[T, H, D]`."""
        self.windows[layer] = options.window
        self.shapes[layer] = LayerShape(k_KTD.shape[0], k_KTD.shape[2], v_KTD.shape[2])
        return q_HTD.new_zeros(q_HTD.shape[1], q_HTD.shape[0], v_KTD.shape[2])


@dataclass(frozen=True)
class SinglesStep:
    """A step of one token of each sequence, of whose numbers nothing is decided: `reads` by how far a layer looks."""

    store: PagedStore
    slots_N: Tensor
    reads: Mapping[int | None, Reads]

    @property
    def tensors(self) -> list[Tensor]:
        """All that it is made of but the store."""
        return [self.slots_N, *(each for reads in self.reads.values() for each in reads if each is not None)]

    def of(self, tensors: Iterator[Tensor]) -> "SinglesStep":
        """Return a step like this of other tensors, as many as this has."""
        slots_N = next(tensors)
        reads = {
            window: Reads(next(tensors), None if own.mask is None else next(tensors))
            for window, own in self.reads.items()
        }
        return SinglesStep(self.store, slots_N, reads)

    def attend(self, layer: int, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, options: Options) -> Tensor:
        """Write a layer's new keys and values, attend, and return `[N, H, D]`."""
        self.store.write(layer, self.slots_N, k_KND.transpose(0, 1), v_KND.transpose(0, 1))
        return attend_singles(self.store, layer, q_HND, self.reads[options.window], options)


def attend_singles(store: PagedStore, layer: int, q_HND: Tensor, reads: Reads, options: Options) -> Tensor:
    """Let one token of each sequence attend to what is read, and return `[N, H, D]`."""
    k_NKLD, v_NKLD = store.read(layer, reads.slots_NL)
    return attend(q_HND.transpose(0, 1).unsqueeze(2), k_NKLD, v_NKLD, reads.mask, options).squeeze(2)


@dataclass
class PagedStep:
    """One step over the store: single tokens attend together, longer spans one after the other."""

    store: PagedStore
    spans: Sequence[Span]
    device: torch.device | str
    dtype: torch.dtype
    _reads: dict[tuple[int, int | None], Reads] = field(default_factory=dict)

    def __post_init__(self) -> None:
        slots = [slot for span in self.spans for slot in self.store.slots(span.blocks, span.start, span.end)]
        self._slots_T = torch.tensor(slots, device=self.device)
        self._singles = [span for span in self.spans if span.count == 1]
        self._longer = [span for span in self.spans if span.count > 1]
        self._rows_N = torch.tensor([span.row for span in self._singles], device=self.device)

    def attend(self, layer: int, q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, options: Options) -> Tensor:
        """Write a layer's new keys and values, attend, and return `[T, H, D]`."""
        self.store.write(layer, self._slots_T, k_KTD.transpose(0, 1), v_KTD.transpose(0, 1))
        if not self._longer:
            return self._attend_singles(layer, q_HTD, options)
        out_THD = q_HTD.new_empty(q_HTD.shape[1], q_HTD.shape[0], v_KTD.shape[2])
        if self._singles:
            out_THD[self._rows_N] = self._attend_singles(layer, q_HTD[:, self._rows_N], options)
        for span in self._longer:
            rows = slice(span.row, span.row + span.count)
            if span.start == 0 and (options.window is None or span.count <= options.window):
                k_NKLD, v_NKLD, mask = k_KTD[None, :, rows], v_KTD[None, :, rows], None
            else:
                slots_NL, mask = self._span_reads(span, options.window)
                k_NKLD, v_NKLD = self.store.read(layer, slots_NL)
            out_THD[rows] = attend(q_HTD[None, :, rows], k_NKLD, v_NKLD, mask, options)[0].transpose(0, 1)
        return out_THD

    def ahead(self, windows: Iterable[int | None]) -> SinglesStep:
        """Return this step of single tokens with all that layers which look as far as that will ask for.

        Reads are of few lengths, and masked whether there is anything to mask or not.
        """
        reads = {window: self._plan_singles(window, padded=True) for window in windows}
        return SinglesStep(self.store, self._slots_T, reads)

    def _attend_singles(self, layer: int, q_HND: Tensor, options: Options) -> Tensor:
        key = (-1, options.window)
        if key not in self._reads:
            self._reads[key] = self._plan_singles(options.window)
        return attend_singles(self.store, layer, q_HND, self._reads[key], options)

    def _plan_singles(self, window: int | None, *, padded: bool = False) -> Reads:
        firsts = [max(0, span.end - window) if window else 0 for span in self._singles]
        counts = [span.end - first for span, first in zip(self._singles, firsts, strict=True)]
        size = self.store.block_size
        longest = rounded(max(counts), LEAST_READ) if padded else max(counts)
        most = max(-(-span.end // size) for span in self._singles)
        tables = [(span.blocks + span.blocks[:1] * most)[:most] for span in self._singles]
        table_NB = torch.tensor(tables, device=self.device)
        first_N1, count_N1 = torch.tensor([firsts, counts], device=self.device).unsqueeze(-1)
        offset_1L = torch.arange(longest, device=self.device)[None]
        absent_NL = offset_1L >= count_N1
        # What is absent reads a place of the sequence's own: no other sequence's numbers, even masked, come in.
        place_NL = first_N1 + offset_1L.masked_fill(absent_NL, 0)
        slots_NL = table_NB.gather(1, place_NL // size) * size + place_NL % size
        return Reads(
            slots_NL, None if min(counts) == longest and not padded else self._as_bias(absent_NL[:, None, None])
        )

    def _span_reads(self, span: Span, window: int | None) -> Reads:
        """Return the places that a span's tokens attend to: the past and themselves, each no further than itself."""
        key = (span.row, window)
        if key not in self._reads:
            first = max(0, span.start - window + 1) if window else 0
            slots_NL = torch.tensor([self.store.slots(span.blocks, first, span.end)], device=self.device)
            query_T1 = torch.arange(span.start, span.end, device=self.device)[:, None]
            key_1L = torch.arange(first, span.end, device=self.device)[None]
            hidden_TL = key_1L > query_T1
            if window:
                hidden_TL |= key_1L <= query_T1 - window
            self._reads[key] = Reads(slots_NL, self._as_bias(hidden_TL[None, None]))
        return self._reads[key]

    def _as_bias(self, hidden: Tensor) -> Tensor:
        return torch.zeros(hidden.shape, device=self.device, dtype=self.dtype).masked_fill_(hidden, float("-inf"))


def attend(q_NHTD: Tensor, k_NKLD: Tensor, v_NKLD: Tensor, mask: Tensor | None, options: Options) -> Tensor:
    """Return softmax(q k / scale) v, `[N, H, T, D]`; without a mask, T > 1 tokens see no further than themselves.

    Query heads share key/value heads in groups (Ainslie et al. 2023, arXiv:2305.13245).
    """
    if options.softcap is not None:
        q_NKGTD = q_NHTD.reshape(q_NHTD.shape[0], k_NKLD.shape[1], -1, *q_NHTD.shape[2:])
        logits_NKGTL = q_NKGTD @ k_NKLD.unsqueeze(2).transpose(-1, -2) * options.scaling
        logits_NKGTL = torch.tanh(logits_NKGTL / options.softcap) * options.softcap
        if mask is not None:
            logits_NKGTL = logits_NKGTL + mask.unsqueeze(2)
        elif q_NHTD.shape[2] > 1:
            hidden_TL = torch.ones(logits_NKGTL.shape[-2:], dtype=torch.bool, device=q_NHTD.device).triu(1)
            logits_NKGTL = logits_NKGTL.masked_fill(hidden_TL, float("-inf"))
        weights_NKGTL = logits_NKGTL.softmax(-1, dtype=torch.float32).to(v_NKLD.dtype)
        return (weights_NKGTL @ v_NKLD.unsqueeze(2)).flatten(1, 2)
    if q_NHTD.shape[2] == 1:
        # One query in each of a group's heads is a group's worth of queries over one head: no key is repeated.
        q_NKGD = q_NHTD.reshape(q_NHTD.shape[0], k_NKLD.shape[1], -1, q_NHTD.shape[3])
        out_NKGD = scaled_dot_product_attention(q_NKGD, k_NKLD, v_NKLD, mask, scale=options.scaling)
        return out_NKGD.reshape(*q_NHTD.shape[:3], v_NKLD.shape[3])
    grouped = q_NHTD.shape[1] != k_NKLD.shape[1]
    return scaled_dot_product_attention(
        q_NHTD, k_NKLD, v_NKLD, mask, is_causal=mask is None, scale=options.scaling, enable_gqa=grouped
    )


# Not an argument of the model's forward: not every model's code passes arguments that it does not know on.
_STEP: ContextVar[AttentionStep] = ContextVar("step")


@contextmanager
def stepping(step: AttentionStep) -> Iterator[None]:
    """Say what step the forward of a model in this context computes."""
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


def paged_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention interface asks: `[1, heads, T, D]` in, `[1, T, heads, D]` out.

    Within `stepping` alone. Raises ModelError for a model that wants something that this attention does not do.
    """
    wanted = [name for name in _NOT_DONE if others.get(name) is not None]
    if attention_mask is not None:
        wanted.append("a mask of its own")
    if not (getattr(module, "is_causal", True) and others.get("is_causal", True) is not False):
        wanted.append("to look ahead")
    if wanted:
        raise ModelError(f"the attention of {type(module).__name__} wants {', '.join(wanted)}, which the paged "
                         f"attention does not do; {TAKE_ANOTHER_BASE}")  # fmt: skip
    options = Options(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, sliding_window)
    layer: Any = module.layer_idx
    return _STEP.get().attend(layer, query[0], key[0], value[0], options).unsqueeze(0), None


_NOT_DONE = ("s_aux", "sinks", "position_bias", "head_mask")


# No mask function is registered under this name: transformers then builds no mask, which would be quadratic.
AttentionInterface.register(PAGED, paged_attention)
