"""Logits → the next id of each sequence, as its own request wants it chosen. Knows nothing of models and caches.

The order is that of transformers' `generate`: repetition penalty, (frequency and presence penalties and the bias, which
only OpenAI has), mask, then temperature, top-k, top-p, min-p.

Nothing is sorted for top-p. An id is drawn as if it cut nothing. Where it would have cut that id, it would have cut all
that are less likely too, and the next draw is among the others: so what is left is drawn as from the cut distribution,
in 1 + ln(1 / top_p) rounds on average, or fewer.

Shapes: N rows, one a sequence; V the vocabulary, in B blocks.
"""
# The shape letters are capitals.

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from quintet.engine.interface import SamplingParams
from quintet.engine.scheduling.sequence import Sequence
from quintet.errors import ModelError, RequestError

# Below this the logits, divided by it, overflow; greedy is where they tend to.
GREEDY_BELOW = 1e-5
# How many ids make a block; a draw first finds the block.
BLOCK = 128
# Up to here the highest scores of all rows are found together; beyond, a row at a time takes less.
FEW = 256


@dataclass(frozen=True)
class SampledToken:
    """The id chosen, and its log probability when the request asked for it, with the likeliest ids and theirs."""

    id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


def sample(logits_NV: Tensor, sequences: list[Sequence]) -> list[SampledToken | Exception]:
    """Return the next id for each row, or why there is none; no row has a say in another's.

    A seeded sequence draws from its own generator alone, so its answer does not depend on its neighbours.
    """
    scores_NV = logits_NV.clone() if any(map(_edits, sequences)) else logits_NV
    failures = _edit(scores_NV, sequences)
    for row, is_finite in enumerate(scores_NV.amax(-1).isfinite().tolist()):
        if not is_finite:
            failures.setdefault(row, ModelError("the model's logits are no numbers, or its mask allows no token"))
    ids = _pick(scores_NV, sequences, set(failures))
    return [failures.get(row) or _choice(logits_NV[row], ids[row], sequences[row]) for row in range(len(sequences))]


@dataclass(frozen=True)
class Odds:
    """How likely the ids are: scores after temperature, and probabilities after top-k.

    Top-p cuts the least likely ids, of equals the lowest, as long as they have a share of `tail` together. `weights`
    are the probabilities without what is known to be cut, by min-p too.
    """

    scores_NV: Tensor
    probs_NV: Tensor
    weights_NV: Tensor
    tail_N1: Tensor

    @classmethod
    def of(cls, scores_NV: Tensor, samplings: list[SamplingParams]) -> "Odds":
        """Return the odds of raw scores; the vocabulary is filled up to whole blocks."""

        def column(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=scores_NV.dtype, device=scores_NV.device).unsqueeze(-1)

        scores_NV = scores_NV / column(s.temperature for s in samplings)
        scores_NV = pad(scores_NV, (0, -scores_NV.shape[-1] % BLOCK), value=-torch.inf)
        probs_NV = _by_rank(scores_NV, scores_NV.softmax(-1), [s.top_k for s in samplings])
        highest_N1 = probs_NV.amax(-1, keepdim=True)
        # Nothing has a share below -1; a cut of 0 would cut what has none, which transformers leaves in.
        tail_N1 = column(1 - s.top_p if s.top_p < 1 else -1.0 for s in samplings)
        # Where the likeliest id alone has what top-p leaves, all others are cut.
        least_N1 = highest_N1 * column(s.min_p for s in samplings).masked_fill(1 - highest_N1 <= tail_N1, 1)
        return cls(scores_NV, probs_NV, probs_NV.clone().ge_(least_N1).mul_(probs_NV), tail_N1)

    def reject(self, ids_N: Tensor) -> dict[int, Tensor]:
        """Return the rows whose id top-p cuts, and for each of them 0 where it then cuts as well, and 1 elsewhere."""
        score_N1, prob_N1 = (each.gather(-1, ids_N.unsqueeze(-1)) for each in (self.scores_NV, self.probs_NV))
        # As numbers and in place: several times as fast as by masks.
        less_N1 = _sum(self.scores_NV.clone().lt_(score_N1).mul_(self.probs_NV))
        doubtful = (less_N1 + prob_N1 <= self.tail_N1).flatten().nonzero().flatten().tolist()
        above = {row: self._above(row, int(ids_N[row]), less_N1[row]) for row in doubtful}
        return {row: above_V for row, above_V in above.items() if above_V is not None}

    def _above(self, row: int, id_: int, less_1: Tensor) -> Tensor | None:
        """Return which ids of a row come behind an id, 1 or 0, or None where top-p does not cut it."""
        scores_V, score = self.scores_NV[row], self.scores_NV[row, id_]
        equal_V = scores_V.clone().eq_(score)
        if less_1 + self.probs_NV[row, id_] * equal_V[: id_ + 1].sum() > self.tail_N1[row]:
            return None
        above_V = scores_V.clone().gt_(score)
        above_V[id_ + 1 :] += equal_V[id_ + 1 :]
        # The last of all is never cut.
        return above_V if above_V.amax() > 0 else None

    def of_rows(self, above: dict[int, Tensor]) -> "Odds":
        """Return the odds of some rows, of which only what is above is left."""
        rows, above_NV = list(above), torch.stack(list(above.values()))
        scores_NV, probs_NV, weights_NV = (_rows(t, rows) for t in (self.scores_NV, self.probs_NV, self.weights_NV))
        return Odds(scores_NV, probs_NV, weights_NV * above_NV, self.tail_N1[rows])


def _by_rank(scores_NV: Tensor, probs_NV: Tensor, top_k: list[int]) -> Tensor:
    """Return the probabilities of the k highest of each row, and of what equals the last of them; 0 is no limit."""
    size, lowest = scores_NV.shape[-1], torch.full_like(scores_NV[:, :1], -torch.inf)
    few = [row for row, k in enumerate(top_k) if 0 < k <= FEW]
    if few:
        places = torch.tensor([[min(top_k[row], size) - 1] for row in few], device=scores_NV.device)
        lowest[few] = _highest(_rows(scores_NV, few), int(places.amax()) + 1).gather(-1, places)
    for row, k in enumerate(top_k):
        if FEW < k < size:
            lowest[row] = scores_NV[row].kthvalue(size - k + 1).values
    is_cut_N1 = lowest.isfinite()
    if not is_cut_N1.any():
        return probs_NV
    probs_NV.mul_(scores_NV.clone().ge_(lowest))
    return probs_NV.div_(_sum(probs_NV).masked_fill_(~is_cut_N1, 1))


def _sum(weights_NV: Tensor) -> Tensor:
    """Return the sum of each row, `[N, 1]`, in the same order however many rows there are."""
    return weights_NV.view(len(weights_NV), -1, BLOCK).sum(-1).sum(-1, keepdim=True, dtype=torch.float64)


def _highest(scores_NV: Tensor, count: int) -> Tensor:
    """Return the highest scores of each row, falling: as many blocks, those with the highest maxima, have them all."""
    size = scores_NV.shape[-1] // BLOCK
    if count < size:
        highest_NB = scores_NV.view(-1, size, BLOCK).amax(-1)
        rows = torch.arange(len(scores_NV), device=scores_NV.device).unsqueeze(-1)
        blocks_NK = rows * size + highest_NB.topk(count, sorted=False).indices
        scores_NV = scores_NV.view(-1, BLOCK).index_select(0, blocks_NK.flatten()).view(len(scores_NV), -1)
    return scores_NV.topk(count).values


def _edits(sequence: Sequence) -> bool:
    s = sequence.sampling
    penalises = s.repetition_penalty != 1 or s.frequency_penalty != 0 or s.presence_penalty != 0
    return penalises or bool(s.logit_bias) or s.mask is not None


def _edit(scores_NV: Tensor, sequences: list[Sequence]) -> dict[int, Exception]:
    """Apply penalties and masks in place; return the rows that failed, with the reason."""
    failures: dict[int, Exception] = {}
    for row, sequence in enumerate(sequences):
        if _edits(sequence):
            try:
                scores_V = scores_NV[row]
                sampling, size = sequence.sampling, len(scores_V)
                if sampling.repetition_penalty != 1:
                    seen = torch.tensor([id_ for id_ in set(sequence.ids) if id_ < size], device=scores_V.device)
                    found = scores_V[seen]
                    scores_V[seen] = torch.where(
                        found < 0, found * sampling.repetition_penalty, found / sampling.repetition_penalty
                    )
                if (counts := Counter(sequence.generated)) and (
                    sampling.frequency_penalty or sampling.presence_penalty
                ):
                    # OpenAI's formula: logit - count * frequency - (count > 0) * presence.
                    penalties = [n * sampling.frequency_penalty + sampling.presence_penalty for n in counts.values()]
                    said = torch.tensor(list(counts), device=scores_V.device)
                    scores_V[said] -= torch.tensor(penalties, dtype=scores_V.dtype, device=scores_V.device)
                _bias(scores_NV[row], sequence.sampling.logit_bias)
                _mask(scores_NV[row], sequence)
            except Exception as error:
                failures[row] = error
    return failures


def _bias(scores_V: Tensor, bias: tuple[tuple[int, float], ...]) -> None:
    if not bias:
        return
    ids, values = zip(*bias, strict=True)
    if min(ids) < 0 or max(ids) >= len(scores_V):
        # On the GPU, an id outside the vocabulary would end the process.
        raise RequestError(
            f"logit_bias names an id that is not in the vocabulary; its ids are 0 to {len(scores_V) - 1}"
        )
    added = torch.tensor(values, dtype=scores_V.dtype, device=scores_V.device)
    scores_V[torch.tensor(ids, device=scores_V.device)] += added


def _mask(scores_V: Tensor, sequence: Sequence) -> None:
    if sequence.sampling.mask is None:
        return
    allowed = torch.as_tensor(sequence.sampling.mask(sequence.generated))
    if allowed.dtype != torch.bool:
        # Not on the GPU, where an id outside the vocabulary would end the process.
        ids, allowed = allowed.long(), torch.zeros(len(scores_V), dtype=torch.bool)
        allowed[ids] = True
    # A grammar knows the tokenizer's ids; the model's table of them may be padded to a rounder size.
    allowed = torch.nn.functional.pad(allowed[: len(scores_V)], (0, max(0, len(scores_V) - len(allowed))))
    if not allowed.any():
        raise RequestError("the constraint on the answer allows no token to come next; loosen it")
    scores_V.masked_fill_(~allowed.to(scores_V.device), -torch.inf)


def _pick(scores_NV: Tensor, sequences: list[Sequence], failed: set[int]) -> list[int]:
    """Return an id for each row; those of failed rows mean nothing."""
    drawn = [
        row for row, each in enumerate(sequences) if row not in failed and each.sampling.temperature >= GREEDY_BELOW
    ]
    ids = [0] * len(sequences)
    greedy = [row for row in range(len(sequences)) if row not in drawn]
    for row, id_ in zip(greedy, _rows(scores_NV, greedy).argmax(-1).tolist() if greedy else [], strict=True):
        ids[row] = id_
    if drawn:
        odds = Odds.of(_rows(scores_NV, drawn), [sequences[row].sampling for row in drawn])
        for row, id_ in zip(drawn, _draw(odds, [sequences[row] for row in drawn]), strict=True):
            ids[row] = id_
    return ids


def _rows(scores_NV: Tensor, rows: list[int]) -> Tensor:
    """Return some rows, in order, which takes a fifth of the time that an index does."""
    if len(rows) == len(scores_NV):
        return scores_NV
    return scores_NV.index_select(0, torch.tensor(rows, device=scores_NV.device))


def _draw(odds: Odds, sequences: list[Sequence]) -> list[int]:
    """Return an id for each row, by as many of its sequence's own random numbers as it takes."""
    ids = [0] * len(sequences)
    left = list(range(len(sequences)))
    while left:
        draws = [sequences[row].random.random() for row in left]
        # In single precision the sum over a vocabulary would lose its rarest tokens: single within blocks, then double.
        weights_NBV = odds.weights_NV.view(len(draws), -1, BLOCK)
        share_N1 = torch.tensor(draws, dtype=torch.float64, device=odds.weights_NV.device).unsqueeze(-1)
        blocks_N1, share_N1 = _find(weights_NBV.sum(-1), share_N1)
        inside_NV = weights_NBV.take_along_dim(blocks_N1.unsqueeze(-1), 1).squeeze(1)
        ids_N = (blocks_N1 * BLOCK + _find(inside_NV, share_N1)[0]).squeeze(-1)
        for row, id_ in zip(left, ids_N.tolist(), strict=True):
            ids[row] = id_
        above = odds.reject(ids_N)
        left = [left[place] for place in above]
        odds = odds.of_rows(above) if left else odds
    return ids


def _find(weights_NX: Tensor, share_N1: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place at which the sum passes a share of the whole, and what share of the place is passed by then."""
    sums_NX = weights_NX.cumsum(-1, dtype=torch.float64)
    total_N1 = sums_NX[:, -1:]
    aims_N1 = (share_N1 * total_N1).minimum(total_N1.nextafter(torch.zeros_like(total_N1)))
    # The first place whose sum is above the aim: never one of weight 0, whose sum is that of the place before.
    places_N1 = torch.searchsorted(sums_NX, aims_N1, right=True)
    weight_N1 = weights_NX.gather(-1, places_N1).double()
    before_N1 = sums_NX.gather(-1, places_N1) - weight_N1
    return places_N1, ((aims_N1 - before_N1) / weight_N1).clamp(0, 1)


def _choice(logits_V: Tensor, id_: int, sequence: Sequence) -> SampledToken:
    wanted = sequence.sampling.logprobs
    if wanted is None:
        return SampledToken(id_)
    logprobs_V = logits_V.log_softmax(-1)
    values, ids = logprobs_V.topk(min(wanted, len(logprobs_V)))
    return SampledToken(id_, logprobs_V[id_].item(), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
