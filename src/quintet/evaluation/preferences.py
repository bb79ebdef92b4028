"""Pairs of answers → which of the two a model holds for likelier than its start does. Trains nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import log_softmax

from quintet.chat import ChatTranslator, Encoded
from quintet.data.examples import Example

PAIRS_AT_ONCE = 16


@dataclass(frozen=True)
class Preferences:
    """What an expert makes of held-out pairs.

    With r(y) = log p_expert(y|x) - log p_start(y|x), the implicit reward without its factor beta (Rafailov et al.
    2023, arXiv:2305.18290, equation 5): `accuracy` is the share of pairs with r(chosen) > r(rejected), `margin` the
    mean of r(chosen) - r(rejected) in nats. `start_likelier` and `expert_likelier` are the shares of pairs whose
    chosen answer is the likelier one, which length decides too.
    """

    pairs: int
    accuracy: float
    margin: float
    start_likelier: float
    expert_likelier: float


def measure_preferences(expert: Any, start: Any, pairs: Sequence[Example], translator: ChatTranslator) -> Preferences:
    """Return how the expert ranks the pairs, beside the model that its training started from."""
    answers = (
        translator.encode_examples([example.messages for example in pairs]),
        translator.encode_examples([example.rejected_messages for example in pairs]),
    )
    # `[pairs, 2]`: chosen, rejected.
    after, before = (torch.stack([answer_logps(model, rows) for rows in answers], dim=1) for model in (expert, start))
    chosen, rejected = (after - before).unbind(1)
    return Preferences(
        pairs=len(pairs),
        accuracy=_share(chosen > rejected),
        margin=round((chosen - rejected).mean().item(), 4),
        start_likelier=_share(before[:, 0] > before[:, 1]),
        expert_likelier=_share(after[:, 0] > after[:, 1]),
    )


def _share(is_so: torch.Tensor) -> float:
    return round(is_so.float().mean().item(), 4)


@torch.inference_mode()
def answer_logps(model: Any, rows: Sequence[Encoded]) -> torch.Tensor:
    """Return the log-probability of each row's answer, its end of turn included, in nats, as float32 `[rows]`."""
    starts = range(0, len(rows), PAIRS_AT_ONCE)
    return torch.cat([_batch_logps(model, rows[start : start + PAIRS_AT_ONCE]) for start in starts])


def _batch_logps(model: Any, rows: Sequence[Encoded]) -> torch.Tensor:
    width = max(len(row.ids) for row in rows)
    # Padding on the right: no position before it can see it.
    ids_BT = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    mask_BT = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    # Virtual tokens, where the method has any, stand in front: the last positions are those of the text.
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT).logits[:, -width:]
    logps_BT = log_softmax(logits_BTV[:, :-1].float(), dim=-1).gather(2, ids_BT[:, 1:, None]).squeeze(2)
    return torch.stack([logps_BT[n, len(r.prompt) - 1 : len(r.ids) - 1].sum() for n, r in enumerate(rows)]).cpu()
