"""Prompts → greedy answers, in batches. Knows nothing of references and scores."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from quintet.models.peft_model import quietly, takes_padding


class Continuation(NamedTuple):
    """What a model said: its ids without the end of turn, and whether it came to one."""

    ids: list[int]
    ended: bool


def answer_all(
    model: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Sequence[int],
    max_tokens: int,
    batch_size: int,
    report: Callable[[int], None],
) -> list[Continuation]:
    """Return the greedy answer to each prompt; those of like length share a batch. `report` is told of each batch."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: dict[int, Continuation] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        made = greedy(model, [prompts[index] for index in chosen], end_ids, max_tokens)
        answers.update(zip(chosen, made, strict=True))
        report(len(chosen))
    return [answers[index] for index in range(len(prompts))]


@torch.inference_mode()
def greedy(model: Any, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], max_tokens: int) -> list[Continuation]:
    """Return the greedy continuation of each prompt, as one left-padded batch.

    Where the model does not take padding, one by one.
    """
    if not takes_padding(model) and len({len(prompt) for prompt in prompts}) > 1:
        return [greedy(model, [prompt], end_ids, max_tokens)[0] for prompt in prompts]
    with quietly():
        return _greedy_batch(model, prompts, end_ids, max_tokens)


def _greedy_batch(
    model: Any, prompts: Sequence[Sequence[int]], end_ids: Sequence[int], max_tokens: int
) -> list[Continuation]:
    width = max(map(len, prompts))
    pad = end_ids[0]
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    room = min(max_tokens, model.config.get_text_config().max_position_embeddings - width)
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max(1, room),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=list(end_ids),
        pad_token_id=pad,
    )
    return [_until_end(row, end_ids) for row in made[:, width:].tolist()]


def _until_end(ids: list[int], end_ids: Sequence[int]) -> Continuation:
    end = next((position for position, id_ in enumerate(ids) if id_ in end_ids), None)
    return Continuation(ids if end is None else ids[:end], end is not None)
