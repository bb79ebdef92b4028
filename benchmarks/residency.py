"""What a thousand registered experts cost, and how long an answer pauses while others' experts come and go.

python -m benchmarks.residency [BASE] [--registered 1000] [--active 20] [--rank 8] [--tokens 64] [--dtype float32]

Without a BASE it is nano. Experts are random; they share a few folders, as the files' content takes no part in it.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.runner import write_experts
from quintet.engine.adapters.loader import is_full
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.runner.model_runner import ModelRunner
from quintet.models.base_model import NANO_FOLDER

PROMPT = tuple(range(10, 42))
FOLDERS = 8
REPEATS = 3
EngineMaker = Callable[..., MixedEngine]
ROUNDS = 6


async def answer(engine: MixedEngine, adapter: Adapter | None, prompt: tuple[int, ...], tokens: int) -> list[float]:
    """Return when each token of a greedy answer came."""
    request = Request(prompt, (), SamplingParams(max_tokens=tokens, temperature=0), adapter)
    return [time.perf_counter() async for _ in engine.generate(request)]


async def throughput(engine: MixedEngine, clients: Sequence[Sequence[Adapter]], tokens: int) -> float:
    """Return tokens a second over all clients, each of whom asks these experts one after the other."""

    async def client(adapters: Sequence[Adapter]) -> None:
        for adapter in adapters:
            await answer(engine, adapter, PROMPT, tokens)

    began = time.perf_counter()
    await asyncio.gather(*map(client, clients))
    return sum(map(len, clients)) * tokens / (time.perf_counter() - began)


async def tell_throughput(make: EngineMaker, adapters: list[Adapter], active: int, tokens: int) -> None:
    """Print tokens a second of so many clients: with only their experts, with all in memory, and as all are asked."""
    own = [[adapter] for adapter in adapters[:active]]
    engines = [make(), make()]
    for engine, experts in zip(engines, (adapters[:active], adapters), strict=True):
        for adapter in experts:
            await engine.load(adapter)
    rates = [[await throughput(engine, own, tokens) for engine in engines] for _ in range(ROUNDS)]
    for engine, rate in zip(engines, map(max, zip(*rates, strict=True)), strict=True):
        print(f"{active} active, {len(engine.status.loaded):4} in memory: {rate:7.1f} tokens/s", flush=True)
        await engine.close()
    rng = random.Random(0)
    engine = make(adapters[0], 3 * active)
    drifting = [rng.choices(adapters, k=REPEATS) for _ in range(active)]
    rate, status = await throughput(engine, drifting, tokens), engine.status
    print(f"{active} active, drawn anew from {len(adapters)}, {len(status.loaded)} in memory: {rate:.1f} tokens/s, "
          f"{status.loads} loads, {status.load_seconds / status.loads * 1e3:.1f} ms each")  # fmt: skip
    await engine.close()


async def visit(engine: MixedEngine, adapters: list[Adapter], *, ask: bool) -> None:
    """Have each expert loaded in turn, for ever, and say one token if asked; each makes one before leave."""
    while True:
        for adapter in adapters:
            await engine.load(adapter)
            if ask:
                await answer(engine, adapter, PROMPT[:1], 1)


async def tell_pauses(make: EngineMaker, running: Adapter, adapters: list[Adapter], tokens: int) -> None:
    """Print how long it is from one token of an answer to the next, alone and while other experts come and go.

    Low-rank experts say one token each, so that they enter a step; fully trained ones do not, as each of their steps is
    as long as the base's. Of several rounds that one counts whose longest pause is shortest: what else the machine does
    only adds to it.
    """
    ask = not is_full(adapters[0].folder)
    print(f"-- {'low-rank' if ask else 'fully trained'} experts come and go")
    engine = make(adapters[0], 4.0 if ask else 1.5)
    rounds: dict[str, list[list[float]]] = {"alone": [], "meanwhile": []}
    for _ in range(ROUNDS):
        rounds["alone"].append(await pauses(engine, running, tokens))
        visiting = asyncio.ensure_future(visit(engine, adapters, ask=ask))
        await asyncio.sleep(0.2)
        rounds["meanwhile"].append(await pauses(engine, running, tokens))
        visiting.cancel()
        with suppress(asyncio.CancelledError):
            await visiting
    for name, taken in rounds.items():
        longest, median = min(map(max, taken)), min(map(statistics.median, taken))
        print(f"{name}: {median * 1e3:.1f} ms between tokens, at most {longest * 1e3:.1f}", flush=True)
    status = engine.status
    print(f"{status.loads} loads, {status.load_seconds / status.loads * 1e3:.0f} ms each, {status.evictions} evictions")
    await engine.close()


async def pauses(engine: MixedEngine, adapter: Adapter, tokens: int) -> list[float]:
    """Return the seconds from each token of an answer to the next."""
    return [after - before for before, after in pairwise(await answer(engine, adapter, PROMPT, tokens))]


async def main(options: argparse.Namespace, folder: Path) -> None:
    """Measure throughput, then the pauses with low-rank visitors and with fully trained ones."""
    dtype = getattr(torch, options.dtype)
    written = write_experts(options.base, folder, FOLDERS, options.rank, dtype)
    adapters = [Adapter(str(number), written[number % FOLDERS].folder) for number in range(options.registered)]
    full = [Adapter(f"full {number}", Path(options.base)) for number in range(3)]

    def make(like: Adapter | None = None, number: float = 1) -> MixedEngine:
        """Return a new engine with room for so many experts like one, or for as many as fit."""
        runner = ModelRunner(options.base, "cpu", dtype, blocks=512)
        memory = None if like is None else int(number * runner.measure(like))
        return MixedEngine(runner, step_tokens=128, expert_memory=memory)

    if options.registered > options.active:
        await tell_throughput(make, adapters, options.active, options.tokens)
    for visitors in (adapters[1:20], full):
        await tell_pauses(make, adapters[0], visitors, options.gaps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default=str(NANO_FOLDER))
    parser.add_argument("--registered", type=int, default=1000)
    parser.add_argument("--active", type=int, default=20)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--gaps", type=int, default=200)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(given, Path(temporary)))
