"""Linear layers that many experts share: each token gets its own expert's low-rank part or scale. Knows no files.

`y = W x + B_all ((A_all x) ⊙ mask)`: the experts of a step are stacked, and a token's mask leaves it its own expert's
ranks alone, so a mixed batch costs two thin products.

Shapes: T tokens, E experts of a stack, I inputs, O outputs, R all their ranks together.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LowRank:
    """What an expert adds to a linear layer: `up^T (down x)`, any scaling within `up`."""

    down_RI: Tensor
    up_RO: Tensor


@dataclass(frozen=True)
class Scale:
    """What an expert multiplies a linear layer's outputs by, or its inputs (Liu et al. 2022, arXiv:2205.05638)."""

    factors: Tensor
    of_input: bool


Parts = Mapping[str, LowRank | Scale]
"""An expert's parts, by the path of the linear layer in the model."""


@dataclass(frozen=True)
class StackedLayer:
    """One layer's parts of all experts of a stack; `ranks` has one number for each expert, 0 where it adds nothing."""

    ranks: tuple[int, ...]
    down_RI: Tensor | None
    up_RO: Tensor | None
    input_scale_EI: Tensor | None
    output_scale_EO: Tensor | None


class Stack:
    """Some experts' parts, layer by layer."""

    def __init__(self, experts: Mapping[str, Parts]) -> None:
        self.index = {digest: number for number, digest in enumerate(experts)}
        paths = dict.fromkeys(path for parts in experts.values() for path in parts)
        self.layers = {path: _stack_layer([parts.get(path) for parts in experts.values()]) for path in paths}

    @property
    def size(self) -> int:
        """How many ranks its layers have together."""
        return sum(sum(layer.ranks) for layer in self.layers.values())


def _stack_layer(parts: Sequence[LowRank | Scale | None]) -> StackedLayer:
    low = [part for part in parts if isinstance(part, LowRank)]
    return StackedLayer(
        tuple(part.down_RI.shape[0] if isinstance(part, LowRank) else 0 for part in parts),
        _join([part.down_RI for part in low]),
        _join([part.up_RO for part in low]),
        _stack_scales(parts, of_input=True),
        _stack_scales(parts, of_input=False),
    )


def _join(tensors: list[Tensor]) -> Tensor | None:
    if len(tensors) < 2:
        return tensors[0] if tensors else None
    return torch.cat(tensors)


def _stack_scales(parts: Sequence[LowRank | Scale | None], of_input: bool) -> Tensor | None:
    """Return a row of factors for each expert, and one of ones behind them, for tokens of no expert."""
    scales = [part if isinstance(part, Scale) and part.of_input == of_input else None for part in parts]
    example = next((scale.factors for scale in scales if scale), None)
    if example is None:
        return None
    ones = torch.ones_like(example)
    return torch.stack([*(scale.factors if scale else ones for scale in scales), ones])


@dataclass
class Rows:
    """Whose the rows of a layer's input are: an index into the stack for each, -1 for no expert."""

    owner_T: Tensor
    owners: frozenset[int]
    _masks: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)

    def mask(self, ranks: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """Return `[T, R]`, one where the rank is of the row's own expert; None where all of them always are."""
        if ranks not in self._masks:
            ranked = {number for number, rank in enumerate(ranks) if rank}
            self._masks[ranks] = None if self.owners == ranked and len(ranked) == 1 else self._mask(ranks, dtype)
        return self._masks[ranks]

    def _mask(self, ranks: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        owner_R = torch.tensor([number for number, rank in enumerate(ranks) for _ in range(rank)])
        return (self.owner_T[:, None] == owner_R.to(self.owner_T.device)[None]).to(dtype)


class Mixer:
    """Adds the experts' parts to a model's linear layers, whose own weights stay as they are.

    The stacks of the last sets of experts are kept, `KEPT` of them: with experts that come and go, as sequences do, a
    stack that holds a few more than are asked for serves as well.
    """

    KEPT = 2

    def __init__(self, model: nn.Module, head: nn.Module | None) -> None:
        self._model = model
        self._head = head
        self._experts: dict[str, Parts] = {}
        self._mixed: set[str] = set()
        self._stacks: list[Stack] = []
        self._layers: Mapping[str, StackedLayer] = {}
        self._rows: Rows | None = None
        self._head_rows: Rows | None = None

    def add(self, digest: str, parts: Parts) -> None:
        """Hold an expert's parts; those of a digest that it holds already are replaced."""
        self.remove(digest)
        for path in parts:
            self._mix(path)
        self._experts[digest] = parts

    def remove(self, digest: str) -> None:
        """Forget an expert's parts, and every stack that has them."""
        self._experts.pop(digest, None)
        self._stacks = [stack for stack in self._stacks if digest not in stack.index]

    @contextmanager
    def rows_of(self, owners: Sequence[str | None], head_rows: Sequence[int], device: Any) -> Iterator[None]:
        """Say whose each row of the next forward is, by digest, and which rows reach the head."""
        active = sorted({digest for digest in owners if digest is not None and self._experts.get(digest)})
        if not active:
            yield
            return
        stack = self._stack(active)
        numbers = [-1 if digest is None else stack.index.get(digest, -1) for digest in owners]
        self._layers = stack.layers
        self._rows = _rows(numbers, device)
        self._head_rows = _rows([numbers[row] for row in head_rows], device)
        try:
            yield
        finally:
            self._layers, self._rows, self._head_rows = {}, None, None

    def _stack(self, active: Sequence[str]) -> Stack:
        """Return a stack of these experts, or one that has them and at most as many ranks of others."""
        ranks = sum(_ranks(self._experts[digest]) for digest in active)
        for stack in self._stacks:
            if stack.index.keys() >= set(active) and stack.size <= 2 * ranks:
                self._stacks.remove(stack)
                break
        else:
            stack = Stack({digest: self._experts[digest] for digest in active})
        self._stacks = [stack, *self._stacks][: self.KEPT]
        return stack

    def _mix(self, path: str) -> None:
        if path not in self._mixed:
            _MixedLinear(self, path, self._model.get_submodule(path), self._head)
            self._mixed.add(path)

    def layer(self, path: str) -> StackedLayer | None:
        """Return what the experts of this forward do to a layer, if anything."""
        return self._layers.get(path)

    def rows(self, of_head: bool) -> Rows:
        """Return whose the rows are that a layer sees."""
        rows = self._head_rows if of_head else self._rows
        if rows is None:
            raise RuntimeError("a layer was asked for its experts outside of a step")
        return rows


class _MixedLinear:
    """One linear layer's hooks: scales on its inputs, low-rank parts and scales on its outputs."""

    def __init__(self, mixer: Mixer, path: str, linear: nn.Module, head: nn.Module | None) -> None:
        self._mixer = mixer
        self._path = path
        self._of_head = linear is head
        linear.register_forward_pre_hook(self._before)
        linear.register_forward_hook(self._after)

    def _before(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        layer = self._mixer.layer(self._path)
        if layer is None or layer.input_scale_EI is None:
            return None
        scale_TI = layer.input_scale_EI[self._mixer.rows(self._of_head).owner_T]
        return (arguments[0] * scale_TI, *arguments[1:])

    def _after(self, _: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        layer = self._mixer.layer(self._path)
        if layer is None:
            return None
        rows = self._mixer.rows(self._of_head)
        if layer.down_RI is not None and layer.up_RO is not None:
            hidden_TR = arguments[0].flatten(0, -2) @ layer.down_RI.T
            mask_TR = rows.mask(layer.ranks, hidden_TR.dtype)
            if mask_TR is not None:
                hidden_TR = hidden_TR * mask_TR
            output.view(-1, output.shape[-1]).addmm_(hidden_TR, layer.up_RO)
        if layer.output_scale_EO is not None:
            output = output * layer.output_scale_EO[rows.owner_T]
        return output


def _rows(numbers: list[int], device: Any) -> Rows:
    return Rows(torch.tensor(numbers, dtype=torch.long, device=device), frozenset(numbers))


def _ranks(parts: Parts) -> int:
    return sum(part.down_RI.shape[0] for part in parts.values() if isinstance(part, LowRank))
