"""Records work as a CUDA graph does, on any device: kernels, and the memory that they read and write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Call = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any], list[Tensor]]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, _tensors(result)))
        return result


def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Return what does the same again in the same memory, with no line of Python in between; and where the result is.

    As with a graph, what was computed while recording is worth nothing.
    """
    with _Recorder() as recorder:
        result = work()
    for _, args, kwargs, results in recorder.calls:
        for made in _made(results, (*_tensors(args), *_tensors(kwargs))):
            made.fill_(torch.nan if made.is_floating_point() else 0)

    def replay() -> None:
        for func, args, kwargs, results in recorder.calls:
            for old, new in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    return replay, result


def _made(results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Return the results that are in memory of their own."""
    places = {each.untyped_storage().data_ptr() for each in given}
    return [each for each in results if each.untyped_storage().data_ptr() not in places]


def _tensors(tree: object) -> list[Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor) and not each.is_mkldnn]
