"""How one department's single client fares beside another department's flood, and what it costs the flood.

python -m benchmarks.fairness [BASE] [--clients 50] [--questions 60] [--prompt 48] [--tokens 40] [--dtype float32]

Without a BASE it is nano. Each client asks again as soon as it was answered, never the same. The engine alone is
measured, without HTTP.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import torch

from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Request, SamplingParams
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.threads import in_own_thread
from quintet.models.base_model import NANO_FOLDER

SETTLE_S = 1.0


@dataclass
class Seen:
    """Seconds to the first token and to the last one of each answer, and how many tokens came."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: int = 0

    def tell(self, name: str) -> None:
        """Print medians and 95th percentiles, in milliseconds."""
        whole, first = (statistics.quantiles(times, n=20) for times in (self.whole, self.first))
        print(f"{name:22} whole answer p50 {whole[9] * 1e3:6.0f}  p95 {whole[18] * 1e3:6.0f} ms"
              f"   first token p50 {first[9] * 1e3:6.0f}  p95 {first[18] * 1e3:6.0f} ms", flush=True)  # fmt: skip


@dataclass
class Load:
    """What is asked: random prompts of one length, answers of another; those of short ones vary by half."""

    engine: MixedEngine
    prompt: int
    tokens: int
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    async def ask(self, department: str, seen: Seen) -> None:
        """Ask once and note the times."""
        ids = tuple(self.draw.randrange(10, 1000) for _ in range(self.prompt))
        tokens = self.draw.randint(self.tokens // 2, self.tokens * 3 // 2) if department == "flood" else self.tokens
        request = Request(ids, (), SamplingParams(max_tokens=tokens, temperature=0), department=department)
        began, first = time.perf_counter(), 0.0
        async for _ in self.engine.generate(request):
            first = first or time.perf_counter()
            seen.tokens += 1
        seen.first.append(first - began)
        seen.whole.append(time.perf_counter() - began)

    async def ask_for_ever(self, department: str, seen: Seen) -> None:
        """Ask again whenever there is an answer."""
        while True:
            await self.ask(department, seen)

    @asynccontextmanager
    async def flood(self, clients: int) -> AsyncGenerator[Seen]:
        """Have so many clients ask meanwhile; what is yielded sees only what comes after they have settled."""
        seen = Seen()
        asking = [asyncio.ensure_future(self.ask_for_ever("flood", seen)) for _ in range(clients)]
        await asyncio.sleep(SETTLE_S)
        seen.tokens = 0
        yield seen
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def main(options: argparse.Namespace) -> None:
    """Measure the quiet client alone, the flood alone, and both."""
    dtype = getattr(torch, options.dtype)
    runner = in_own_thread(lambda: ModelRunner(options.base, "cpu", dtype, int8=options.int8))
    engine = MixedEngine(runner, step_tokens=128, max_queue=2 * options.clients)
    load = Load(engine, options.prompt, options.tokens)
    alone, beside = Seen(), Seen()
    await load.ask("quiet", Seen())
    for _ in range(options.questions):
        await load.ask("quiet", alone)
    alone.tell("quiet, alone")
    async with load.flood(options.clients) as flood:
        began = time.perf_counter()
        await asyncio.sleep(options.seconds)
        unshared = flood.tokens / (time.perf_counter() - began)
    async with load.flood(options.clients) as flood:
        began = time.perf_counter()
        for _ in range(options.questions):
            await load.ask("quiet", beside)
        seconds = time.perf_counter() - began
    beside.tell("quiet, beside a flood")
    shared, all_shared = flood.tokens / seconds, (flood.tokens + beside.tokens) / seconds
    print(f"{options.clients} clients: {unshared:.0f} tokens/s by themselves, {shared:.0f} beside the quiet one "
          f"({shared / unshared:.0%}), {all_shared:.0f} in all")  # fmt: skip
    await engine.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default=str(NANO_FOLDER))
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--prompt", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--int8", action="store_true")
    asyncio.run(main(parser.parse_args()))
