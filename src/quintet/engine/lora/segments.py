"""Where in a step each expert's tokens are, so that they meet its low-rank rows alone. Knows no layers and no names.

On a CPU, a product of each token with all experts' rows, masked, would be mostly work for nothing. Tokens of one expert
that follow each other, as in a prompt, are multiplied where they lie; all others are sorted to their experts, and
multiplied at once.

Shapes: T tokens, R rows of low rank, E experts of W rows each, G the tokens of the one that has most, N tokens that
are sorted, I inputs, O outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

LONG = 16
"""From how many tokens of one expert on, one behind the other, a product of their own pays."""


@dataclass(frozen=True)
class Segment:
    """Tokens of one expert that follow each other, and its rows."""

    tokens: slice
    rows: slice

    def add(self, x_TI: Tensor, down_RI: Tensor, up_RO: Tensor, out_TO: Tensor) -> None:
        """Add these tokens' low-rank part to the outputs."""
        hidden = x_TI[self.tokens] @ down_RI[self.rows].T
        out_TO[self.tokens].addmm_(hidden, up_RO[self.rows])


@dataclass(frozen=True)
class PaddedGroups:
    """Single tokens, sorted to their experts: `order` has for each expert as many as the one with most has.

    Where an expert has fewer, any token stands, and what comes of it is not read. `tokens_N` is None where they are all
    of a step's tokens, in their order.
    """

    width: int
    order: Tensor
    places_N: Tensor
    tokens_N: Tensor | None

    def add(self, x_TI: Tensor, down_RI: Tensor, up_RO: Tensor, out_TO: Tensor) -> None:
        """Add these tokens' low-rank part to the outputs."""
        experts = down_RI.shape[0] // self.width
        down_EWI, up_EWO = (rows.view(experts, self.width, -1) for rows in (down_RI, up_RO))
        x_EGI = x_TI.index_select(0, self.order).view(experts, -1, x_TI.shape[-1])
        added_EGO = torch.bmm(torch.bmm(x_EGI, down_EWI.transpose(1, 2)), up_EWO)
        added_NO = added_EGO.flatten(0, 1).index_select(0, self.places_N)
        if self.tokens_N is None:
            out_TO += added_NO
        else:
            out_TO.index_add_(0, self.tokens_N, added_NO)


@dataclass(frozen=True)
class TokenGroups:
    """The tokens of a step that have an expert of low rank."""

    parts: Sequence[Segment | PaddedGroups]

    def add(self, x_TI: Tensor, down_RI: Tensor, up_RO: Tensor, out_TO: Tensor) -> None:
        """Add to the outputs `[T, O]` what each token's own expert adds to them."""
        for part in self.parts:
            part.add(x_TI, down_RI, up_RO, out_TO)


def group(rows: Sequence[range], span: range) -> TokenGroups | None:
    """Group tokens by each one's rows, of those of a window; None where experts are not equally wide.

    A token without rows is in no group.
    """
    widths = {len(own) for own in rows if own}
    if len(widths) != 1 or len(span) % (width := widths.pop()):
        return None
    runs, single = _split(rows, span)
    experts = {token: divmod(rows[token].start - span.start, width) for token in single}
    if any(rest for _, rest in experts.values()):
        return None
    if not single:
        return TokenGroups(runs)
    of_expert: list[list[int]] = [[] for _ in range(len(span) // width)]
    for token, (expert, _) in experts.items():
        of_expert[expert].append(token)
    total = len(rows)
    most = max(map(len, of_expert))
    some = next(token for tokens in of_expert for token in tokens)
    order = [token for tokens in of_expert for token in [*tokens, *[some] * (most - len(tokens))]]
    place = {token: expert * most + nth for expert, tokens in enumerate(of_expert) for nth, token in enumerate(tokens)}
    tokens = sorted(place)
    tokens_N = None if len(tokens) == total else torch.tensor(tokens)
    return TokenGroups(
        [*runs, PaddedGroups(width, torch.tensor(order), torch.tensor([place[token] for token in tokens]), tokens_N)]
    )


def _split(rows: Sequence[range], span: range) -> tuple[list[Segment], list[int]]:
    """Return the long runs of one expert's tokens, and the tokens that are in none."""
    runs: list[Segment] = []
    single: list[int] = []
    token = 0
    for own, same in groupby(rows):
        tokens = range(token, token := token + len(list(same)))
        if own and len(tokens) >= LONG:
            first = own.start - span.start
            runs.append(Segment(slice(tokens.start, tokens.stop), slice(first, first + len(own))))
        elif own:
            single += tokens
    return runs, single
