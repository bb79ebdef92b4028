"""Time contestants that serve the same requests, in turn, in one run; print medians as a Markdown table.

python -m benchmarks.serving BASE --contestant quintet --contestant hf --contestant vllm=/venvs/vllm/bin/python ...

Each contestant may have an interpreter of its own, whose environment has what it needs. Every load is given twice, once
with a single token asked for: that is the prompts' part; the rest is decoding.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from benchmarks.serving.contestant import Load, Setup, Took
from benchmarks.serving.workload import make_load, write_experts, write_gguf_base, write_gguf_expert
from quintet.models.base_model import load_config

MODULES = {"quintet": "quintet_engine", "hf": "hf_peft", "vllm": "vllm_cpu", "llama": "llama_cpp_groups"}
UNTIMED = 2**20
"""What is added to the seeds of what is not timed: no load has the same prompts."""


@dataclass(frozen=True)
class Cell:
    """How many requests of what length there are at once, and whether of experts or of the bare base."""

    count: int
    length: int
    mixed: bool


@dataclass(frozen=True)
class Measured:
    """One load by one contestant: seconds to its end, and for the prompts alone."""

    cell: Cell
    contestant: str
    tokens: int
    seconds: float
    prompt_seconds: float
    first: list[float]
    resident: int

    @property
    def rate(self) -> float:
        """Tokens a second in all, prompts included."""
        return self.cell.count * self.tokens / self.seconds

    @property
    def decode_rate(self) -> float:
        """Tokens a second once the prompts are computed."""
        return self.cell.count * (self.tokens - 1) / max(1e-9, self.seconds - self.prompt_seconds)


class Contestant:
    """A running contestant; `ask` gives it a load and waits."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._to, self._from = process.stdin, process.stdout

    def ask(self, load: Load | Setup) -> str:
        """Send a line and return the line that comes back."""
        assert self._to
        assert self._from
        print(json.dumps(asdict(load)), file=self._to, flush=True)
        if not (line := self._from.readline()):
            raise SystemExit(f"{self.name} ended; what it said is in its log")
        return line

    def answer(self, load: Load) -> Took:
        """Give it a load."""
        return Took(**json.loads(self.ask(load)))


@contextmanager
def started(name: str, python: str, setup: Setup, log: IO[str]) -> Iterator[Contestant]:
    """Start a contestant and wait until it is ready; at the end its input is closed and it goes."""
    which, *variant = name.split("-")
    command = [python, "-m", f"benchmarks.serving.{MODULES[which]}", *variant]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
    )
    began = time.perf_counter()
    try:
        contestant = Contestant(name, process)
        contestant.ask(setup)
        print(f"{name} ready after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        yield contestant
    finally:
        # Some have children of their own, which outlive them.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(contestant: Contestant, cell: Cell, tokens: int, seed: int, experts: int, words: int) -> Measured:
    """Time one load, and the same number of other prompts with one token each."""
    # What pushed it out of memory while it waited for its turn is no part of its time. A prompt that no load has.
    contestant.answer(make_load(UNTIMED + seed, 1, cell.length, 1, experts, words, mixed=cell.mixed))
    one, all_of_it = (
        contestant.answer(make_load(seed + part, cell.count, cell.length, length, experts, words, mixed=cell.mixed))
        for part, length in ((0, 1), (1, tokens))
    )
    if all_of_it.generated != cell.count * tokens:
        raise SystemExit(f"{contestant.name} made {all_of_it.generated} tokens of {cell.count * tokens}")
    return Measured(cell, contestant.name, tokens, all_of_it.seconds, one.seconds, all_of_it.first, all_of_it.resident)


def table(measured: list[Measured]) -> Iterator[str]:
    """Yield a Markdown table of medians: tokens a second in all, and in brackets when decoding alone."""
    names = list(dict.fromkeys(each.contestant for each in measured))
    yield "| requests | prompt | of | " + " | ".join(names) + " |"
    yield "|---|---|---|" + "---|" * len(names)
    for cell in dict.fromkeys(each.cell for each in measured):
        cells = [_median(measured, cell, name) for name in names]
        yield f"| {cell.count} | {cell.length} | {'experts' if cell.mixed else 'base'} | {' | '.join(cells)} |"


def _median(measured: list[Measured], cell: Cell, name: str) -> str:
    found = [each for each in measured if (each.cell, each.contestant) == (cell, name)]
    if not found:
        return "-"
    rate = statistics.median(each.rate for each in found)
    return f"{rate:.1f} ({statistics.median(each.decode_rate for each in found):.1f})"


def prepare(arguments: argparse.Namespace, folder: Path) -> Setup:
    """Write what the contestants need."""
    names = [name.partition("=")[0] for name in arguments.contestant]
    experts = write_experts(arguments.base, folder, arguments.experts, arguments.rank, arguments.dtype)
    setup = Setup(arguments.base, experts, arguments.threads, arguments.dtype)
    if not any(name.startswith("llama") for name in names):
        return setup
    gguf = [write_gguf_expert(expert, folder / f"{number}.gguf") for number, expert in enumerate(experts)]
    return replace(setup, gguf=write_gguf_base(arguments.base, folder / "base.gguf"), gguf_experts=gguf)


def main(arguments: argparse.Namespace) -> None:
    """Run all contestants over all cells, in turn, several times."""
    words = load_config(arguments.base).vocab_size
    cells = [Cell(n, length, mixed=True) for length in arguments.lengths for n in arguments.n]
    cells += [Cell(n, arguments.lengths[0], mixed=False) for n in arguments.base_n]
    measured: list[Measured] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context((arguments.log or folder / "log").open("w"))
        setup = prepare(arguments, folder)
        chosen = [(name, python or sys.executable) for name, _, python in map(_split, arguments.contestant)]
        contestants = [stack.enter_context(started(name, python, setup, log)) for name, python in chosen]
        for contestant in contestants:  # Nobody is timed when it does something for the first time.
            contestant.answer(make_load(0, max(arguments.n), 40, 4, arguments.experts, words, mixed=True))
        for number, (cell, repeat) in enumerate((c, r) for c in cells for r in range(arguments.repeats)):
            for contestant in contestants[repeat % len(contestants) :] + contestants[: repeat % len(contestants)]:
                measured.append(measure(contestant, cell, arguments.tokens, 2 * number + 1, arguments.experts, words))
                print(json.dumps(asdict(measured[-1])), file=sys.stderr, flush=True)
    print("\n".join(table(measured)))


def _split(contestant: str) -> tuple[str, str, str]:
    return contestant.partition("=")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("base")
    made.add_argument(
        "--contestant", action="append", required=True, help=f"NAME[=PYTHON]: {', '.join(MODULES)}, llama-q8"
    )
    made.add_argument("--n", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    made.add_argument("--base-n", type=int, nargs="*", default=[1, 10], help="the same with the bare base")
    made.add_argument("--lengths", type=int, nargs="+", default=[40, 512])
    made.add_argument("--tokens", type=int, default=64)
    made.add_argument("--experts", type=int, default=5)
    made.add_argument("--rank", type=int, default=16)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--repeats", type=int, default=3)
    made.add_argument("--dtype", default="bfloat16")
    made.add_argument("--log", type=Path, help="where the contestants' own words go")
    return made


if __name__ == "__main__":
    main(parser().parse_args())
