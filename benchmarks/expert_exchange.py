"""How long a running answer pauses while other experts come and go.

python -m benchmarks.expert_exchange BASE [--experts 4] [--rank 16] [--tokens 100] [--dtype bfloat16] [--threads 2]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.runner import write_experts
from quintet.engine.base import Adapter, Request, Sampling
from quintet.engine.batch import Prepared
from quintet.engine.engine import MixedEngine
from quintet.engine.torch_runner import TorchRunner

PROMPT = tuple(range(10, 74))


class TimedRunner(TorchRunner):
    """Notes how long each part of an exchange takes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.took: dict[str, list[float]] = {}

    def prepare(self, adapter: Adapter) -> Prepared:
        """Read an expert."""
        return self._timed("read", lambda: super(TimedRunner, self).prepare(adapter))  # type: ignore[no-any-return]

    def install(self, digest: str, prepared: Prepared) -> None:
        """Let chunks of a prepared expert come."""
        self._timed("install", lambda: super(TimedRunner, self).install(digest, prepared))

    def unload(self, digest: str) -> None:
        """Forget an expert."""
        self._timed("unload", lambda: super(TimedRunner, self).unload(digest))

    def _timed(self, part: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.took.setdefault(part, []).append(time.perf_counter() - began)


async def gaps(engine: MixedEngine, tokens: int) -> list[float]:
    """Return the times between the tokens of one answer of the bare base."""
    times = []
    async for _ in engine.generate(Request(PROMPT, (), Sampling(max_tokens=tokens, temperature=0))):
        times.append(time.perf_counter())
    return [after - before for before, after in zip(times, times[1:], strict=False)]


async def exchange(engine: MixedEngine, adapters: list[Adapter]) -> None:
    """Have each expert loaded in turn, for ever; each makes the one before leave."""
    while True:
        for adapter in adapters:
            await engine.load(adapter)


async def measure(runner: TimedRunner, adapters: list[Adapter], tokens: int) -> None:
    """Print gaps without and with experts that come and go, and what of those is on the engine's thread."""
    engine = MixedEngine(runner, expert_memory=max(map(runner.measure, adapters)) * 5 // 4)
    print("alone:     ", describe(await gaps(engine, tokens)), flush=True)
    exchanging = asyncio.ensure_future(exchange(engine, adapters))
    print("exchanging:", describe(await gaps(engine, tokens)), flush=True)
    exchanging.cancel()
    with suppress(asyncio.CancelledError):
        await exchanging
    print(f"{engine.status.loads} loads, {engine.status.evictions} evictions")
    for part, seconds in runner.took.items():
        print(f"{part:8} {describe(seconds)}")
    await engine.close()


def describe(seconds: list[float]) -> str:
    """Return the median and the longest, in milliseconds."""
    return f"median {statistics.median(seconds) * 1e3:7.1f} ms, longest {max(seconds) * 1e3:7.1f} ms"


def main(options: argparse.Namespace) -> None:
    """Measure low-rank experts, then full ones: the base's own folder under two digests."""
    dtype = getattr(torch, options.dtype)
    full = [Adapter(digest, Path(options.base)) for digest in ("first", "second")]
    with tempfile.TemporaryDirectory() as folder:
        low_rank = write_experts(options.base, Path(folder), options.experts, options.rank, dtype)
        for name, adapters in {"low-rank": low_rank, "full": full}.items():
            print(f"-- {name}", flush=True)
            runner = TimedRunner(options.base, "cpu", dtype, blocks=256)
            asyncio.run(measure(runner, adapters, options.tokens))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    main(given)
