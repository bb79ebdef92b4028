"""Tokens grouped by expert, against each token multiplied by its own rows."""
# The shape letters are capitals.
# ruff: noqa: N803

import random

import pytest
import torch
from torch import Tensor

from quintet.engine.lora.segments import LONG, PaddedGroups, Segment, group

WIDTH = 3
NOBODY = range(0)
ROWS = [range(start, start + WIDTH) for start in range(6, 18, WIDTH)]
WINDOW = range(6, 18)


def one_by_one(rows: list[range], x_TI: Tensor, down_RI: Tensor, up_RO: Tensor) -> Tensor:
    """What each token's own rows say, by themselves."""
    own = [[row - WINDOW.start for row in each] for each in rows]
    return torch.stack([x @ down_RI[each].T @ up_RO[each] for x, each in zip(x_TI, own, strict=True)])


def check(rows: list[range]) -> None:
    torch.manual_seed(len(rows))
    x_TI, out_TO = torch.randn(len(rows), 5).double(), torch.randn(len(rows), 7).double()
    down_RI, up_RO = torch.randn(len(WINDOW), 5).double(), torch.randn(len(WINDOW), 7).double()
    expected = out_TO + one_by_one(rows, x_TI, down_RI, up_RO)
    groups = group(rows, WINDOW)
    assert groups is not None
    groups.add(x_TI, down_RI, up_RO, out_TO)
    torch.testing.assert_close(out_TO, expected)


@pytest.mark.parametrize("seed", range(20))
def test_each_token_meets_its_own_rows_alone(seed: int) -> None:
    rng = random.Random(seed)
    rows: list[range] = []
    for _ in range(rng.randint(1, 12)):
        rows += [rng.choice([*ROWS, NOBODY])] * rng.choice([1, 1, 1, 2, LONG - 1, LONG, 3 * LONG])
    check([ROWS[0], *rows])


def test_long_runs_are_multiplied_where_they_lie_and_the_rest_at_once() -> None:
    groups = group([ROWS[0], *[ROWS[1]] * LONG, ROWS[2], ROWS[0]], WINDOW)
    assert groups is not None
    run, rest = groups.parts
    assert run == Segment(slice(1, 1 + LONG), slice(3, 6))
    assert isinstance(rest, PaddedGroups)
    # Of four experts' places, two of which are those of the first, and one of the third.
    assert rest.order.tolist() == [0, 18, 0, 0, 17, 0, 0, 0]
    assert rest.places_N.tolist() == [0, 4, 1]
    assert rest.tokens_N is not None
    assert rest.tokens_N.tolist() == [0, 17, 18]


def test_a_run_by_itself_needs_no_sorting() -> None:
    groups = group([ROWS[1]] * LONG + [NOBODY], WINDOW)
    assert groups is not None
    assert groups.parts == [Segment(slice(0, LONG), slice(3, 6))]


def test_what_comes_of_a_place_that_nobody_takes_is_not_read() -> None:
    rows = [ROWS[0], ROWS[0], ROWS[1]]
    groups = group(rows, WINDOW)
    assert groups is not None
    down_RI, up_RO = torch.ones(len(WINDOW), 5), torch.ones(len(WINDOW), 7)
    down_RI[6:] = torch.inf
    out_TO = torch.zeros(3, 7)
    groups.add(torch.ones(3, 5), down_RI, up_RO, out_TO)
    assert out_TO.eq(15).all()


@pytest.mark.parametrize(
    ("rows", "span"),
    [
        ([range(3), range(3, 8)], range(8)),
        ([range(3), range(3, 6)], range(8)),
        ([range(3), range(4, 7)], range(9)),
        ([NOBODY, NOBODY], range(9)),
    ],
    ids=["of two widths", "beside a gap", "not at a multiple", "nobody's"],
)
def test_rows_that_do_not_lie_evenly_are_not_grouped(rows: list[range], span: range) -> None:
    assert group(rows, span) is None
