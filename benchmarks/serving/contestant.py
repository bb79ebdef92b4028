"""What a contestant is: a process that answers one line of JSON with another. Imports nothing but Python's own.

Each contestant runs in an environment of its own, which need not know the others' libraries.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Setup:
    """What all contestants serve: a base, its experts' folders, and on how many threads."""

    base: str
    experts: list[str]
    threads: int
    dtype: str = "bfloat16"
    gguf: str = ""
    gguf_experts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """Prompts that are there at the same moment; `experts` are indices of the setup's, -1 for the bare base."""

    prompts: list[list[int]]
    experts: list[int]
    tokens: int


@dataclass(frozen=True)
class Took:
    """Seconds for all answers, seconds to each first token where they come one by one, and memory in bytes."""

    seconds: float
    first: list[float] = field(default_factory=list)
    generated: int = 0
    resident: int = 0
    detail: dict[str, float] = field(default_factory=dict)


Answer = Callable[[Load], Took]


def compete(start: Callable[[Setup], Answer]) -> None:
    """Read a setup, start, and answer loads until there are no more; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = start(Setup(**json.loads(sys.stdin.readline())))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(answer(Load(**json.loads(line))))), file=answers, flush=True)


def timed(work: Callable[[], int]) -> Took:
    """Time some work that returns how many tokens it generated."""
    began = time.perf_counter()
    generated = work()
    return Took(time.perf_counter() - began, generated=generated, resident=resident())


def resident(pid: int | str = "self") -> int:
    """Return how much memory a process and its children hold."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024
    children = Path(f"/proc/{pid}/task/{os.getpid() if pid == 'self' else pid}/children").read_text().split()
    return own + sum(resident(child) for child in children)
