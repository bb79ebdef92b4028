"""How fast departments of all methods answer at once: as one mixed batch, and each by its own model's `generate`.

python -m benchmarks.methods PROJECT [--n 1 5 10 20] [--prompt 40] [--tokens 64] [--repeats 3]

PROJECT is trained and released, such as what `quintet quickstart` leaves. PEFT has no batch of several methods, so
there the departments answer one after the other, each all of its requests as one batch.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.precision import served_precision
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.threads import in_own_thread
from quintet.models.base_model import load_model, locate
from quintet.models.peft_model import load_expert_model, quietly
from quintet.registry.releases import released_expert

Prompts = Sequence[list[int]]


async def mixed(engine: MixedEngine, adapters: Sequence[Adapter | None], prompts: Prompts, tokens: int) -> float:
    """Return the seconds of all answers, asked at once of these experts in turn."""

    async def answer(ids: list[int], adapter: Adapter | None) -> None:
        sampling = SamplingParams(max_tokens=tokens, temperature=0)
        async for _ in engine.generate(Request(tuple(ids), (), sampling, adapter)):
            pass

    began = time.perf_counter()
    await asyncio.gather(*(answer(ids, adapters[n % len(adapters)]) for n, ids in enumerate(prompts)))
    return time.perf_counter() - began


@torch.inference_mode()
def in_turn(models: Sequence[Any], prompts: Prompts, tokens: int) -> float:
    """Return the seconds of the same by `generate`, model after model."""
    began = time.perf_counter()
    for number, model in enumerate(models[: len(prompts)]):
        ids = torch.tensor(prompts[number :: len(models)])
        with quietly():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                           min_new_tokens=tokens, do_sample=False, pad_token_id=0)  # fmt: skip
    return time.perf_counter() - began


def main(options: argparse.Namespace) -> None:
    """Print a line of a Markdown table for each number of requests: tokens a second, prompts included."""
    torch.set_num_threads(options.threads)
    project = Project.load(options.project)
    experts = [released_expert(project, name) for name in project.trained]
    adapters = [Adapter(expert.digest, Path(expert.folder)) for expert in experts]
    source, served = locate(project.config.base_model, project.root), served_precision(project)
    runner = in_own_thread(lambda: ModelRunner(source, dtype=served.dtype, int8=served.is_int8))
    engine = MixedEngine(runner, runner.device_info, step_tokens=128)
    base = load_model(source, "cpu", served.dtype)
    models = [load_expert_model(Path(expert.folder), base) for expert in experts]
    draw, loop = random.Random(0), asyncio.new_event_loop()

    def median(took: Sequence[float], count: int) -> str:
        return f"{count * options.tokens / statistics.median(took):.0f}"

    print(f"{', '.join(f'{expert.department} ({expert.method})' for expert in experts)}; {served.precision}")
    print("| requests | Quintet, mixed | Quintet, the base | `generate` in turn |\n|---|---|---|---|")
    for count in options.n:
        took: list[list[float]] = [[], [], []]
        for _ in range(options.repeats + 1):
            prompts, others = (
                [[draw.randrange(10, runner.vocabulary) for _ in range(options.prompt)] for _ in range(count)]
                for _ in range(2)
            )
            took[0].append(loop.run_until_complete(mixed(engine, adapters, prompts, options.tokens)))
            took[1].append(loop.run_until_complete(mixed(engine, [None], others, options.tokens)))
            took[2].append(in_turn(models, prompts, options.tokens))
        # The first of each is to warm up.
        print(f"| {count} | {' | '.join(median(each[1:], count) for each in took)} |", flush=True)
    loop.run_until_complete(engine.close())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--n", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--prompt", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    main(parser.parse_args())
