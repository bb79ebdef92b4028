"""How likely a model holds given answers to be, without ever holding the logits of more than a few of them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from quintet.chat import Encoded

ROWS_AT_ONCE = 16
PLACES_AT_ONCE = 8192
"""Places of a batch, padding included: what bounds its hidden states."""
LOGITS_AT_ONCE = 2**25
"""Numbers in the logits of a batch, 128 MB as float32: what bounds those. One long answer may exceed it alone."""


class Losses(NamedTuple):
    """For each row, minus the log-probability of its answer, in nats, and the answer's tokens, its end included."""

    nats: list[float]
    tokens: list[int]

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss of a token (Jelinek et al. 1977), over all rows together."""
        return float(torch.tensor(sum(self.nats) / sum(self.tokens)).exp())


@torch.inference_mode()
def answer_losses(model: Any, rows: Sequence[Encoded]) -> Losses:
    """Return the loss of each row's answer, given what stands before it."""
    nats = [0.0] * len(rows)
    for chosen in _batches(rows, int(model.get_output_embeddings().out_features)):
        for index, loss in zip(chosen, _batch_losses(model, [rows[index] for index in chosen]), strict=True):
            nats[index] = loss
    return Losses(nats, [len(row.answer) for row in rows])


def _batches(rows: Sequence[Encoded], vocabulary: int) -> Iterator[list[int]]:
    """Yield the rows' numbers, rows of like length together, as many as the bounds allow."""
    batch: list[int] = []
    answers = 0
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index].ids)):
        width, answer = len(rows[index].ids), len(rows[index].answer)
        is_full = (
            len(batch) == ROWS_AT_ONCE
            or width * (len(batch) + 1) > PLACES_AT_ONCE
            or (answers + answer) * vocabulary > LOGITS_AT_ONCE
        )
        if batch and is_full:
            yield batch
            batch, answers = [], 0
        batch.append(index)
        answers += answer
    if batch:
        yield batch


def _batch_losses(model: Any, rows: Sequence[Encoded]) -> list[float]:
    width = max(len(row.ids) for row in rows)
    # Padding on the right: no position before it can see it.
    ids_BT = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    mask_BT = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    # Each token is foretold at the place before it.
    says_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for number, row in enumerate(rows):
        says_BT[number, len(row.prompt) - 1 : len(row.ids) - 1] = True

    def keep(_: Any, hidden: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        # Virtual tokens, where the method has any, stand in front: the last places are those of the text.
        return (hidden[0][:, -width:][says_BT],)

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits_NV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    finally:
        hook.remove()
    losses_N = cross_entropy(logits_NV.float(), ids_BT[:, 1:][says_BT[:, :-1]], reduction="none")
    parts = torch.split(losses_N, [len(row.answer) for row in rows])
    return [float(part.sum()) for part in parts]
