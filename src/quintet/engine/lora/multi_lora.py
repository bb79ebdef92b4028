"""Multi-LoRA: linear layers that many adapters share, each token with its own adapter's low-rank part or scale.

`y = W x + B_all ((A_all x) ⊙ mask)`: the adapters of a step lie in one stack of rows, and a token's mask leaves it its
own adapter's ranks alone, so a mixed batch costs two thin products. On a CPU, where adapters are equally wide, tokens
are grouped by adapter instead (`segments`). An adapter's rows are the same in all layers, so one mask or order does for
all; loading one copies its own rows only.

Shapes: T tokens, E experts with scales, I inputs, O outputs, R the rows from the first to the last expert of a step.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import torch
from torch import Tensor, nn

from quintet.engine.lora.segments import TokenGroups, group
from quintet.engine.lora.slots import SlotAllocator
from quintet.engine.memory import lazy_zeros, rounded

MAX_RESIDENT = 64
"""Of how many experts rows are kept, the widest ones that there are; a step of more makes room for them all."""


@dataclass(frozen=True)
class LoRAWeights:
    """What an expert adds to a linear layer: `up^T (down x)`, any scaling within `up`."""

    down_RI: Tensor
    up_RO: Tensor


@dataclass(frozen=True)
class Scale:
    """What an expert multiplies a linear layer's outputs by, or its inputs (Liu et al. 2022, arXiv:2205.05638)."""

    factors: Tensor
    of_input: bool


Parts = Mapping[str, LoRAWeights | Scale]
"""An expert's parts, by the path of the linear layer in the model."""


class RankRows:
    """The low-rank parts of experts in each layer, row behind row, where a space of `capacity` rows says.

    All rows are finite numbers, so those of no expert, or of one that left, come to nothing behind a mask. `layers`
    has a part of each layer, of whatever rank.
    """

    def __init__(self, capacity: int, layers: Mapping[str, LoRAWeights]) -> None:
        self.space = SlotAllocator(capacity)
        self.layers = layers
        self._written: dict[str, Parts] = {}
        self._rows = {
            path: (_zeros(part.down_RI, capacity), _zeros(part.up_RO, capacity)) for path, part in layers.items()
        }

    def hold(self, capacity: int, layers: Iterable[str]) -> bool:
        """Whether there are as many rows, in all of these layers."""
        return capacity <= self.space.capacity and all(path in self.layers for path in layers)

    def larger(self, capacity: int, layers: Mapping[str, LoRAWeights]) -> "RankRows":
        """Return empty rows in all of both layers: as many as these, or, where those are too few, at least twice."""
        now = self.space.capacity
        more = {
            path: LoRAWeights(
                part.down_RI.new_empty(0, part.down_RI.shape[1]), part.up_RO.new_empty(0, part.up_RO.shape[1])
            )
            for path, part in layers.items()
        }
        return RankRows(now if capacity <= now else max(capacity, 2 * now), {**more, **self.layers})

    def gather(self, experts: Mapping[str, Parts]) -> bool:
        """Bring experts in, and closer together; return whether any was written."""
        for digest, parts in experts.items():
            if self._written.get(digest) is not parts:
                self.space.forget(digest)
        moved = self.space.gather({digest: rank(parts) for digest, parts in experts.items()})
        for digest in moved:
            self._write(self.space.ranges[digest], experts[digest])
            self._written[digest] = experts[digest]
        return bool(moved)

    def forget(self, digest: str) -> None:
        """Free an expert's rows."""
        self.space.forget(digest)
        self._written.pop(digest, None)

    def forget_all_but(self, experts: Mapping[str, Parts]) -> None:
        """Free the rows of all that are not among these."""
        for digest in self._written.keys() - experts.keys():
            self.forget(digest)

    def _write(self, rows: range, parts: Parts) -> None:
        for path, (down_RI, up_RO) in self._rows.items():
            part = parts.get(path)
            end = rows.start
            if isinstance(part, LoRAWeights):
                end += part.down_RI.shape[0]
                down_RI[rows.start : end] = part.down_RI
                up_RO[rows.start : end] = part.up_RO
            if end < rows.stop:
                down_RI[end : rows.stop] = 0
                up_RO[end : rows.stop] = 0

    def layer(self, path: str, span: range) -> tuple[Tensor, Tensor]:
        """Return a layer's rows of a window, `[R, I]` and `[R, O]`."""
        down_RI, up_RO = self._rows[path]
        return down_RI[span.start : span.stop], up_RO[span.start : span.stop]


def rank(parts: Parts) -> int:
    """Return how many rows an expert needs: the largest of its ranks."""
    return max((part.down_RI.shape[0] for part in parts.values() if isinstance(part, LoRAWeights)), default=0)


def _zeros(part_RX: Tensor, capacity: int) -> Tensor:
    return lazy_zeros((capacity, part_RX.shape[1]), part_RX.device, part_RX.dtype)


class Scales:
    """Tables of factors, one for each side of a layer that is scaled: a row of ones, then one for each such expert."""

    def __init__(self, experts: Mapping[str, Parts]) -> None:
        scaled = _scaled(experts)
        self.row = {digest: number for number, digest in enumerate(scaled, 1)}
        parts = list(scaled.values())
        sides = {(path, p.of_input): p.factors for each in parts for path, p in each.items() if isinstance(p, Scale)}
        self._tables = {
            side: torch.stack([torch.ones_like(example), *(_factors(each, side, example) for each in parts)])
            for side, example in sides.items()
        }

    def table(self, path: str, of_input: bool) -> Tensor:
        """Return a side's factors, a row for each expert with scales, behind one of ones."""
        return self._tables[path, of_input]


def _scaled(experts: Mapping[str, Parts]) -> dict[str, Parts]:
    return {digest: parts for digest, parts in experts.items() if any(isinstance(p, Scale) for p in parts.values())}


def _factors(parts: Parts, side: tuple[str, bool], example: Tensor) -> Tensor:
    part = parts.get(side[0])
    return part.factors if isinstance(part, Scale) and part.of_input == side[1] else torch.ones_like(example)


@dataclass(frozen=True)
class Tokens:
    """Whose some tokens are: True at the ranks of others, or groups, if there are any; the row of scales of each."""

    others_TR: Tensor | None
    scale_T: Tensor
    groups: TokenGroups | None = None

    def add_low_rank(self, layer: "BatchLayer", x_TI: Tensor, out_TO: Tensor) -> None:
        """Add to a layer's outputs what each token's own expert adds to them."""
        if layer.down_RI is None or layer.up_RO is None:
            return
        if self.groups is not None:
            self.groups.add(x_TI, layer.down_RI, layer.up_RO, out_TO)
            return
        hidden_TR = x_TI @ layer.down_RI.T
        if self.others_TR is not None:
            # Not a product: another's part may overflow, and what is no number would stay none.
            hidden_TR.masked_fill_(self.others_TR, 0)
        out_TO.addmm_(hidden_TR, layer.up_RO)


@dataclass(frozen=True)
class BatchLayer:
    """What the experts of a step do to a layer."""

    down_RI: Tensor | None
    up_RO: Tensor | None
    input_scale_EI: Tensor | None
    output_scale_EO: Tensor | None


@dataclass(frozen=True)
class LoRABatch:
    """What the experts of a step do to the layers, and whose the tokens are: all, and those that reach the head.

    `graph_key` is equal where all of it but the tokens is the same, in the same memory.
    """

    layers: Mapping[str, BatchLayer]
    tokens: Tokens
    head_tokens: Tokens
    graph_key: Hashable

    @property
    def tensors(self) -> list[Tensor]:
        """What it says of the tokens, where all of them reach the head."""
        return [each for each in (self.tokens.scale_T, self.tokens.others_TR) if each is not None]

    def of(self, tensors: Iterator[Tensor]) -> "LoRABatch":
        """Return a mixture like this of other tokens, all of which reach the head."""
        scale_T = next(tensors)
        tokens = Tokens(None if self.tokens.others_TR is None else next(tensors), scale_T)
        return LoRABatch(self.layers, tokens, tokens, self.graph_key)


class MultiLoRA:
    """Adds adapters to a model's linear layers, whose own weights stay as they are.

    For one thread, except `reserve`. With `padded`, the span of a step is padded to one of few lengths, so that few
    CUDA graphs do for all steps.
    """

    def __init__(self, model: nn.Module, head: nn.Module | None, *, padded: bool = False) -> None:
        self._model = model
        self._head = head
        self._padded = padded
        self._experts: dict[str, Parts] = {}
        self._mixed: set[str] = set()
        self._rows = RankRows(0, {})
        self._reserved: RankRows | None = None
        self._scales = Scales({})
        # Those that are coming included.
        self._ranks: dict[str, int] = {}
        # The experts of the last step, or none when anything has to be done before the next of the same.
        self._prepared: frozenset[str] = frozenset()
        self._ranges: Mapping[str, range] = {}
        self._window = range(0)
        self._mixed_layers: Mapping[str, BatchLayer] = {}
        self._graph_key: Hashable = None
        self._mixture: LoRABatch | None = None

    @torch.inference_mode()
    def reserve(self, digest: str, parts: Parts) -> None:
        """Make room for an expert, from any thread, so that adding it then takes no time."""
        self._ranks[digest] = rank(parts)
        room = self._room(parts)
        if room is not self._rows and room is not self._reserved:
            experts, inside = dict(self._experts), list(self._rows.space.ranges)
            room.gather({digest: experts[digest] for digest in inside if digest in experts})
            self._reserved = room

    @torch.inference_mode()
    def add(self, digest: str, parts: Parts) -> None:
        """Hold an expert's parts; those of a digest that it holds already are replaced."""
        self.remove(digest)
        for path in parts:
            if path not in self._mixed:
                _LoRALinear(self, path, self._model.get_submodule(path), self._head)
                self._mixed.add(path)
        self._experts[digest], self._ranks[digest] = parts, rank(parts)
        room = self._room(parts)
        if room is not self._rows:
            self._rows, self._reserved = room, None
            self._rows.forget_all_but(self._experts)

    def remove(self, digest: str) -> None:
        """Forget an expert's parts, and free its rows."""
        if self._experts.pop(digest, None) is None:
            return
        del self._ranks[digest]
        for rows in filter(None, (self._rows, self._reserved)):
            rows.forget(digest)
        if digest in self._scales.row:
            self._scales = Scales({})
        self._prepared = frozenset()

    def _room(self, parts: Parts) -> RankRows:
        """Return rows for all experts and these parts: those that there are, or twice as many, so they seldom grow."""
        needed = sum(nlargest(MAX_RESIDENT, list(self._ranks.values())))
        layers = {**self._rows.layers, **{path: part for path, part in parts.items() if isinstance(part, LoRAWeights)}}
        now, reserved = self._rows, self._reserved or self._rows
        held = next((rows for rows in (now, reserved) if rows.hold(needed, layers)), None)
        return held or reserved.larger(needed, layers)

    @property
    def rows(self) -> RankRows:
        """Where the low-rank parts are."""
        return self._rows

    def prepare_batch(self, owners: Sequence[str | None], head_rows: Sequence[int], device: Any) -> LoRABatch | None:
        """Prepare the next forward; `owners` are the adapters of its rows, by digest. None where no row has any.

        `head_rows` are the rows that reach the head.
        """
        active = {owner: self._experts[owner] for owner in dict.fromkeys(owners) if owner in self._experts}
        if not active:
            return None
        if active.keys() != self._prepared:
            ranked = {digest: parts for digest, parts in active.items() if self._ranks[digest]}
            if (needed := sum(self._ranks[digest] for digest in ranked)) > self._rows.space.capacity:
                self._rows = self._rows.larger(needed, {})
            moved = self._rows.gather(ranked)
            self._prepared = frozenset() if moved else frozenset(active)
            self._ranges = {digest: self._rows.space.ranges[digest] for digest in ranked}
            span = self._rows.space.span(ranked)
            self._window = (
                range(min(rounded(span.stop, 16), self._rows.space.capacity)) if self._padded and span else span
            )
            if not _scaled(active).keys() <= self._scales.row.keys():
                self._scales = Scales(active)
            paths = dict.fromkeys(path for parts in active.values() for path in parts)
            self._mixed_layers = {path: self._mixed_layer(path, active) for path in paths}
            # Objects, not their numbers: as long as somebody holds this, no other can be taken for them.
            self._graph_key = (self._rows, self._window, self._scales, frozenset(_what_is_done(self._mixed_layers)))
        of_head = self._tokens_of([owners[row] for row in head_rows], device)
        return LoRABatch(self._mixed_layers, self._tokens_of(owners, device), of_head, self._graph_key)

    @contextmanager
    def active(self, prepare_batch: LoRABatch | None) -> Iterator[None]:
        """Let a batch hold in the forwards of this context."""
        self._mixture = prepare_batch
        try:
            yield
        finally:
            self._mixture = None

    def _mixed_layer(self, path: str, active: Mapping[str, Parts]) -> BatchLayer:
        """Return what these experts do to a layer."""
        parts = [each[path] for each in active.values() if path in each]
        sides = {part.of_input for part in parts if isinstance(part, Scale)}
        down_RI = up_RO = None
        if any(isinstance(part, LoRAWeights) for part in parts):
            down_RI, up_RO = self._rows.layer(path, self._window)
        return BatchLayer(
            down_RI,
            up_RO,
            self._scales.table(path, True) if True in sides else None,
            self._scales.table(path, False) if False in sides else None,
        )

    def _tokens_of(self, owners: Sequence[str | None], device: Any) -> Tokens:
        rows = [self._scales.row.get(owner, 0) if owner else 0 for owner in owners]
        scale_T = torch.tensor(rows, device=device)
        ranges = [self._ranges.get(owner, range(0)) if owner else range(0) for owner in owners]
        if all(own == self._window for own in ranges):
            return Tokens(None, scale_T)
        groups = group(ranges, self._window) if scale_T.is_cpu and not self._padded else None
        return Tokens(None if groups else self._others(ranges, device), scale_T, groups)

    def _others(self, ranges: Sequence[range], device: Any) -> Tensor:
        """Return `[T, R]`, True where a rank is not of the token's own expert."""
        bounds = [[own.start for own in ranges], [own.stop for own in ranges]]
        start_T1, stop_T1 = torch.tensor(bounds, device=device).unsqueeze(-1)
        rows_R = torch.arange(self._window.start, self._window.stop, device=device)
        others_TR: Tensor = (rows_R < start_T1) | (rows_R >= stop_T1)
        return others_TR

    def layer(self, path: str) -> BatchLayer | None:
        """Return what the experts of this forward do to a layer, if anything."""
        return self._mixture.layers.get(path) if self._mixture else None

    def tokens(self, of_head: bool) -> Tokens:
        """Return whose the tokens are that a layer sees."""
        if self._mixture is None:
            raise RuntimeError("a layer was asked for its experts outside of a step")
        return self._mixture.head_tokens if of_head else self._mixture.tokens


def _what_is_done(layers: Mapping[str, BatchLayer]) -> Iterator[tuple[str, bool, bool, bool]]:
    """Yield of each layer which of the three things are done to it."""
    for path, layer in layers.items():
        yield path, layer.down_RI is None, layer.input_scale_EI is None, layer.output_scale_EO is None


class _LoRALinear:
    """One linear layer's hooks: scales on its inputs, low-rank parts and scales on its outputs."""

    def __init__(self, mixer: MultiLoRA, path: str, linear: nn.Module, head: nn.Module | None) -> None:
        self._mixer = mixer
        self._path = path
        self._of_head = linear is head
        linear.register_forward_pre_hook(self._before)
        linear.register_forward_hook(self._after)

    def _before(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        layer = self._mixer.layer(self._path)
        if layer is None or layer.input_scale_EI is None:
            return None
        scale_TI = layer.input_scale_EI[self._mixer.tokens(self._of_head).scale_T]
        return (arguments[0] * scale_TI, *arguments[1:])

    def _after(self, _: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        layer = self._mixer.layer(self._path)
        if layer is None:
            return None
        tokens = self._mixer.tokens(self._of_head)
        tokens.add_low_rank(layer, arguments[0].flatten(0, -2), output.view(-1, output.shape[-1]))
        if layer.output_scale_EO is not None:
            output = output * layer.output_scale_EO[tokens.scale_T]
        return output
