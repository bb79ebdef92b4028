"""Work that is recorded says what it said before, or is not used."""

import logging
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from quintet.engine.memory import rounded
from quintet.engine.runner import cuda_graphs
from quintet.engine.runner.cuda_graphs import CUDAGraphs
from tests.engine.recording import record

HERE, THERE = object(), object()


@pytest.mark.parametrize("least", [1, 16, 64])
def test_sizes_are_few_and_at_most_a_quarter_larger_than_what_they_are_for(least: int) -> None:
    sizes = [rounded(count, least) for count in range(1, 1000)]
    assert all(count <= size < max(count * 1.25, count + least) for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 36
    assert sizes == sorted(sizes)


class Work:
    """Doubles what it is given, and counts how often Python was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        self.calls += 1
        return inputs[0] * 2


def test_what_comes_a_third_time_is_not_computed_by_python() -> None:
    graphs, work = CUDAGraphs(record), Work()
    for number in range(5):
        result = graphs.run(HERE, "double", [torch.full((3,), float(number))], work)
        assert result.tolist() == [2 * number] * 3
    assert work.calls == 3


@pytest.mark.parametrize(("graph_key", "size"), [("other", 3), ("double", 4)])
def test_another_kind_or_shape_is_recorded_by_itself(graph_key: str, size: int) -> None:
    graphs, work = CUDAGraphs(record), Work()
    for _ in range(3):
        graphs.run(HERE, "double", [torch.ones(3)], work)
    assert graphs.run(HERE, graph_key, [torch.ones(size)], work).tolist() == [2.0] * size
    assert work.calls == 4


def test_graphs_of_memory_that_is_gone_are_not_run() -> None:
    graphs, work = CUDAGraphs(record), Work()
    for owner in (HERE, HERE, HERE, THERE, HERE):
        graphs.run(owner, "double", [torch.ones(3)], work)
    assert work.calls == 5


def test_the_least_recently_run_graph_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    graphs, work = CUDAGraphs(record), Work()
    for graph_key in ("a", "b", "a", "b", "a", "c", "c"):
        graphs.run(HERE, graph_key, [torch.ones(3)], work)
    before = work.calls
    graphs.run(HERE, "a", [torch.ones(3)], work)
    assert work.calls == before
    graphs.run(HERE, "b", [torch.ones(3)], work)
    assert work.calls > before


def fails(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing\nand so on")


def forgets(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    return lambda: None, torch.zeros_like(work())


@pytest.mark.parametrize(("capture", "why"), [(fails, "not permitted"), (forgets, "says something else")])
def test_what_cannot_be_recorded_rightly_is_computed_as_before_and_said_once(
    caplog: pytest.LogCaptureFixture, capture: cuda_graphs.Capture, why: str
) -> None:
    graphs, work = CUDAGraphs(capture), Work()
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            assert graphs.run(HERE, "double", [torch.full((3,), float(number))], work).tolist() == [2 * number] * 3
    assert [why in message for message in caplog.messages] == [True]
