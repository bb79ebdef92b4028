"""Greedy answers to prompts: by the engine that serves, or by transformers, where no engine serves the model.

transformers obeys a base's generation_config, with its penalties and beams, as the engine does not; it is put aside.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.precision import ServedPrecision
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.threads import in_own_thread
from quintet.errors import ModelError
from quintet.models.peft_model import quietly, takes_padding

STEP_TOKENS = 512
"""Of one step of the engine: nobody waits for a first token."""


class Continuation(NamedTuple):
    """What a model said: its ids without the end of turn, and whether it came to one."""

    ids: list[int]
    ended: bool


def served_answers(
    source: str,
    precision: ServedPrecision,
    contestants: Mapping[str, Adapter | None],
    prompts: Sequence[Sequence[int]],
    end_ids: Sequence[int],
    max_tokens: int,
    report: Callable[[int], None],
) -> dict[str, list[Continuation]]:
    """Return each contestant's greedy answers, all computed side by side by an engine over the base in `source`.

    None is the bare base. A contestant that the engine cannot serve has no entry. `report` is told of each answer.
    """
    runner = in_own_thread(lambda: ModelRunner(source, dtype=precision.dtype, int8=precision.is_int8))
    waiting = len(contestants) * len(prompts)
    engine = MixedEngine(runner, runner.device_info, max_queue=waiting + 1, step_tokens=STEP_TOKENS)

    async def ask(adapter: Adapter | None, ids: Sequence[int]) -> Continuation:
        sampling = SamplingParams(max_tokens, temperature=0)
        request = Request(tuple(ids), tuple(end_ids), sampling, adapter, output_kind="final")
        tokens = [token async for token in engine.generate(request)]
        report(1)
        return Continuation([token.id for token in tokens if token.id is not None], tokens[-1].finish_reason == "stop")

    async def ask_all() -> dict[str, list[Continuation]]:
        served = {}
        for key, adapter in contestants.items():
            try:
                if adapter is not None:
                    await engine.load(adapter)
                served[key] = adapter
            except ModelError:
                continue
        try:
            asked = [asyncio.gather(*(ask(adapter, ids) for ids in prompts)) for adapter in served.values()]
            return dict(zip(served, await asyncio.gather(*asked), strict=True))
        finally:
            await engine.close()

    return in_own_thread(lambda: asyncio.run(ask_all()))


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
    with quietly(), _plainly(model):
        return _greedy_batch(model, prompts, end_ids, max_tokens)


@contextmanager
def _plainly(model: Any) -> Iterator[None]:
    """Put the generation config of a model aside, and of what it wraps."""
    modules = [module for module in model.modules() if "generation_config" in vars(module)]
    own = [(module, module.generation_config) for module in modules]
    try:
        for module, _ in own:
            module.generation_config = GenerationConfig()
        yield
    finally:
        for module, config in own:
            module.generation_config = config


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
