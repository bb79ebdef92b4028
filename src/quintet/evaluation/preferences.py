"""Pairs of answers → which of the two a model holds for likelier than its start does. Trains nothing."""

from collections.abc import Sequence
from typing import Any

import torch

from quintet.chat import ChatTranslator
from quintet.data.examples import Example
from quintet.evaluation.likelihood import answer_losses
from quintet.evaluation.results import Preferences


def measure_preferences(expert: Any, start: Any, pairs: Sequence[Example], translator: ChatTranslator) -> Preferences:
    """Return how the expert ranks the pairs, beside the model that its training started from."""
    answers = (
        translator.encode_examples([example.messages for example in pairs]),
        translator.encode_examples([example.rejected_messages for example in pairs]),
    )
    # `[pairs, 2]`: log-probabilities of chosen, rejected.
    after, before = (
        -torch.tensor([answer_losses(model, rows).nats for rows in answers]).T for model in (expert, start)
    )
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
