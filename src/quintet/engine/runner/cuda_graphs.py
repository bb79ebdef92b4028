"""CUDA graphs: a decode step's kernels, captured once and replayed from then on. Knows no models, experts or sequences.

On a GPU a small model's step is over before Python has launched all of it: some thousand kernels, each launched by
itself. A graph has them all, with the addresses that they read and write; only what is at these addresses changes.
A graph's result is compared with that of the same step without it before any request is answered by it.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache
from torch import Tensor

Compute = Callable[[Sequence[Tensor]], Tensor]
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Records some work; returns what does it again, and where its result then is."""
MAX_GRAPHS = 128
MAX_RELATIVE_ERROR = 0.02
"""Of the length of the logits: kernels that are chosen anew may round otherwise, and no more."""

logger = logging.getLogger("quintet.engine")


def capture_on_gpu() -> Capture:
    """Return what records CUDA graphs, whose results all lie in one pool: each is read before another is launched."""
    pool = torch.cuda.graph_pool_handle()

    def capture(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        # Other threads read experts meanwhile, and may.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result

    return capture


@dataclass(frozen=True)
class Graph:
    """Recorded work, the tensors it reads, and where its result is when it is done."""

    inputs: Sequence[Tensor]
    replay: Callable[[], None]
    result: Tensor

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Do the work with other numbers of the same shapes; the result holds until the next graph runs."""
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new)
        self.replay()
        return self.result


class CUDAGraphs:
    """Graphs by what they are for, the least recently used of which are let go."""

    def __init__(self, capture: Capture) -> None:
        self._capture: Capture | None = capture
        self._owner: object = None
        self._graphs: LRUCache[Hashable, Graph] = LRUCache(MAX_GRAPHS)
        self._met: set[Hashable] = set()

    def run(self, owner: object, graph_key: Hashable, inputs: Sequence[Tensor], compute: Compute) -> Tensor:
        """Return what `compute` makes of the inputs; nothing that it does may be decided by their numbers.

        `graph_key` is all else that it depends on. `owner` has the memory that graphs read: another owner drops them
        all. A graph is captured when its key comes a second time.
        """
        if owner is not self._owner:
            self._clear()
            self._owner = owner
        key = (graph_key, tuple(each.shape for each in inputs))
        graph: Graph | None = self._graphs.get(key)
        if graph is not None:
            return graph.run(inputs)
        result = compute(inputs)
        if self._capture and key in self._met:
            self._record(self._capture, key, inputs, compute, result)
        self._met.add(key)
        return result

    def _record(
        self, capture: Capture, key: Hashable, inputs: Sequence[Tensor], compute: Compute, expected: Tensor
    ) -> None:
        own = [each.clone() for each in inputs]
        try:
            replay, result = capture(lambda: compute(own))
            replay()
        except RuntimeError as error:
            self._give_up(f"it cannot be recorded ({str(error).splitlines()[0]})")
            return
        expected = expected.float()
        apart = float((result.float() - expected).norm() / expected.norm().clamp_min(1e-12))
        if apart > MAX_RELATIVE_ERROR:
            self._give_up(f"what was recorded says something else ({apart:.3f} apart)")
            return
        self._graphs[key] = Graph(own, replay, result)

    def _give_up(self, why: str) -> None:
        logger.warning("steps are launched kernel by kernel, which is slower: %s", why)
        self._capture = None
        self._clear()

    def _clear(self) -> None:
        self._graphs.clear()
        self._met.clear()
