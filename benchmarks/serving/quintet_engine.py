"""Quintet, as a contestant: all requests at once to one engine."""

import asyncio
import sys
import time
from pathlib import Path

import torch

from benchmarks.serving.contestant import Answer, Load, Setup, Took, compete, resident
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.threads import in_own_thread


def start(setup: Setup) -> Answer:
    """Load the base; experts are loaded when they are first asked."""
    torch.set_num_threads(setup.threads)
    dtype = getattr(torch, setup.dtype)
    runner = in_own_thread(lambda: ModelRunner(setup.base, "cpu", dtype, int8="int8" in sys.argv))
    engine = MixedEngine(runner, runner.device_info, step_tokens=128)
    adapters = [Adapter(str(number), Path(folder)) for number, folder in enumerate(setup.experts)]
    loop = asyncio.new_event_loop()
    return lambda load: loop.run_until_complete(_answer(engine, adapters, load))


async def _answer(engine: MixedEngine, adapters: list[Adapter], load: Load) -> Took:
    before = engine.status
    began = time.perf_counter()
    pairs = zip(load.prompts, load.experts, strict=True)
    firsts = await asyncio.gather(
        *(_ask(engine, ids, adapters[expert] if expert >= 0 else None, load.tokens, began) for ids, expert in pairs)
    )
    seconds = time.perf_counter() - began
    after = engine.status
    detail = {"steps": after.steps - before.steps, "load_seconds": after.load_seconds - before.load_seconds}
    return Took(seconds, list(firsts), after.generated_tokens - before.generated_tokens, resident(), detail)


async def _ask(engine: MixedEngine, ids: list[int], adapter: Adapter | None, tokens: int, began: float) -> float:
    """Read one answer to its end, and return when its first token came."""
    first = 0.0
    async for _ in engine.generate(Request(tuple(ids), (), SamplingParams(max_tokens=tokens, temperature=0), adapter)):
        first = first or time.perf_counter() - began
    return first


if __name__ == "__main__":
    compete(start)
