"""Logits → the next id of each sequence, as its own request wants it chosen. Knows nothing of models and caches.

The order is that of transformers' `generate`: repetition penalty, (frequency and presence penalties and the bias, which
only OpenAI has), mask, then temperature, top-k, top-p, min-p. Shapes: N rows, one a sequence; V the vocabulary, W how
much of it is looked at.
"""
# The shape letters are capitals.

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from quintet.engine.base import Sampling
from quintet.engine.sequence import Sequence
from quintet.errors import ModelError, RequestError

# Below this the logits, divided by it, overflow; greedy is where they tend to.
GREEDY_BELOW = 1e-5
# How many of the highest scores are looked at first.
NARROW = 256


@dataclass(frozen=True)
class Choice:
    """The id chosen, and its log probability when the request asked for it, with the likeliest ids and theirs."""

    id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


def choose(logits_NV: Tensor, sequences: list[Sequence]) -> list[Choice | Exception]:
    """Return the next id for each row, or why there is none; no row has a say in another's.

    A seeded sequence draws from its own generator, one number an id, so its answer does not depend on its neighbours.
    """
    scores_NV = logits_NV.clone() if any(map(_edits, sequences)) else logits_NV
    failures = _edit(scores_NV, sequences)
    for row, is_finite in enumerate(scores_NV.amax(-1).isfinite().tolist()):
        if not is_finite:
            failures.setdefault(row, ModelError("the model's logits are no numbers, or its mask allows no token"))
    ids = _pick(scores_NV, sequences, set(failures))
    return [failures.get(row) or _choice(logits_NV[row], ids[row], sequences[row]) for row in range(len(sequences))]


def warp(scores_NV: Tensor, samplings: list[Sampling], width: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return rising scores after temperature, top-k, top-p and min-p, the id of each, and which rows are whole.

    What is cut is -inf. With a width W, only the W highest are looked at, and the scores are `[N, W]`: a row is whole
    when all the others would be cut anyway. Sorting a vocabulary takes ten times as long as finding its best.
    """

    def column(values: Iterable[float]) -> Tensor:
        return torch.tensor(list(values), dtype=scores_NV.dtype, device=scores_NV.device).unsqueeze(-1)

    scores_NV = scores_NV / column(s.temperature for s in samplings)
    size = scores_NV.shape[-1]
    width = min(width or size, size)
    sorted_NW, ids_NW = scores_NV.sort(dim=-1, stable=True) if width == size else _highest(scores_NV, width)
    top_k = [s.top_k or size for s in samplings]
    kth_N1 = torch.tensor([[max(width - k, 0)] for k in top_k], device=scores_NV.device)
    sorted_NW = sorted_NW.masked_fill(sorted_NW < sorted_NW.gather(-1, kth_N1), -torch.inf)
    by_k_N1 = column(k <= width for k in top_k).bool()
    # The share of those that are not looked at, unless top-k has cut them already.
    left_N1 = 1 - (sorted_NW.logsumexp(-1, keepdim=True) - scores_NV.logsumexp(-1, keepdim=True)).exp()
    left_N1 = left_N1.clamp(min=0).masked_fill(by_k_N1, 0)
    # Nothing has a share below -1; a cut of 0 would cut what has none, which transformers leaves in.
    tail_N1 = column(1 - s.top_p if s.top_p < 1 else -1.0 for s in samplings)
    cut_NW = left_N1 + (1 - left_N1) * sorted_NW.softmax(-1).cumsum(-1) <= tail_N1
    cut_NW[:, -1] = False
    whole_N1 = by_k_N1 | (left_N1 <= tail_N1)
    sorted_NW = sorted_NW.masked_fill(cut_NW, -torch.inf)
    probs_NW = sorted_NW.softmax(-1)
    cut_NW = probs_NW < column(s.min_p for s in samplings) * probs_NW[:, -1:]
    return sorted_NW.masked_fill(cut_NW, -torch.inf), ids_NW, (whole_N1 | cut_NW[:, :1]).squeeze(-1)


def _highest(scores_NV: Tensor, width: int) -> tuple[Tensor, Tensor]:
    values_NW, ids_NW = scores_NV.topk(width, dim=-1)
    return values_NW.flip(-1), ids_NW.flip(-1)


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
                _penalise(scores_NV[row], sequence)
                _bias(scores_NV[row], sequence.sampling.logit_bias)
                _mask(scores_NV[row], sequence)
            except Exception as error:
                failures[row] = error
    return failures


def _penalise(scores_V: Tensor, sequence: Sequence) -> None:
    sampling, size = sequence.sampling, len(scores_V)
    if sampling.repetition_penalty != 1:
        seen = torch.tensor([id_ for id_ in set(sequence.ids) if id_ < size], device=scores_V.device)
        found = scores_V[seen]
        scores_V[seen] = torch.where(
            found < 0, found * sampling.repetition_penalty, found / sampling.repetition_penalty
        )
    if (counts := Counter(sequence.generated)) and (sampling.frequency_penalty or sampling.presence_penalty):
        # OpenAI's formula: logit - count * frequency - (count > 0) * presence.
        penalties = [n * sampling.frequency_penalty + sampling.presence_penalty for n in counts.values()]
        said = torch.tensor(list(counts), device=scores_V.device)
        scores_V[said] -= torch.tensor(penalties, dtype=scores_V.dtype, device=scores_V.device)


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
    ids = scores_NV.argmax(-1)
    drawn = [row for row, each in enumerate(sequences) if row not in failed and _is_drawn(each.sampling)]
    cut = [row for row in drawn if _cuts(sequences[row].sampling)]
    uncut = [row for row in drawn if not _cuts(sequences[row].sampling)]
    if uncut:
        temperatures = torch.tensor([[sequences[row].sampling.temperature] for row in uncut], device=ids.device)
        ids[uncut] = _draw(scores_NV[uncut] / temperatures, [sequences[row] for row in uncut])
    # A row that the narrow look does not settle is looked at as a whole, whatever the others need.
    for width in (NARROW, None):
        if cut:
            warped_NW, ids_NW, whole_N = warp(scores_NV[cut], [sequences[row].sampling for row in cut], width)
            places = [place for place, is_whole in enumerate(whole_N.tolist()) if is_whole or width is None]
            settled = [cut[place] for place in places]
            if settled:
                draws_N = _draw(warped_NW[places], [sequences[row] for row in settled])
                ids[settled] = ids_NW[places].gather(-1, draws_N.unsqueeze(-1)).squeeze(-1)
            cut = [row for row in cut if row not in settled]
    return ids.tolist()


def _is_drawn(sampling: Sampling) -> bool:
    return sampling.temperature >= GREEDY_BELOW


def _cuts(sampling: Sampling) -> bool:
    return sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0


def _draw(scores_NW: Tensor, sequences: list[Sequence]) -> Tensor:
    """Return a place in each row, drawn by the inverse of its distribution: one random number, one place."""
    # In single precision the sum over a vocabulary would lose its rarest tokens.
    sums_NW = scores_NW.softmax(-1).cumsum(-1, dtype=torch.float64)
    total_N1 = sums_NW[:, -1:]
    draws = [[sequence.random.random()] for sequence in sequences]
    aims_N1 = torch.tensor(draws, dtype=torch.float64, device=scores_NW.device) * total_N1
    aims_N1 = aims_N1.minimum(total_N1.nextafter(torch.zeros_like(total_N1)))
    # The first place whose sum is above the aim: never one of probability 0, whose sum is that of the place before.
    return torch.searchsorted(sums_NW, aims_N1, right=True).squeeze(-1)


def _choice(logits_V: Tensor, id_: int, sequence: Sequence) -> Choice:
    wanted = sequence.sampling.logprobs
    if wanted is None:
        return Choice(id_)
    logprobs_V = logits_V.log_softmax(-1)
    values, ids = logprobs_V.topk(min(wanted, len(logprobs_V)))
    return Choice(id_, logprobs_V[id_].item(), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
