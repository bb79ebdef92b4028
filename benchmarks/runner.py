"""How many tokens a second the runner decodes, with experts mixed and without, and what of a step is not the model's.

python -m benchmarks.runner BASE [--n 1 10] [--experts 5] [--rank 16] [--steps 20] [--dtype bfloat16] [--int8]
python -m benchmarks.runner nano --project FOLDER [--n 1 10]     the project's released experts, of whatever method
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count, cycle, islice
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from quintet.config import Project
from quintet.engine.interface import Adapter
from quintet.engine.kernels.int8_linear import Int8Linear
from quintet.engine.kernels.prepacked_linear import PackedLinear
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.types import Chunk
from quintet.models.base_model import load_model, locate
from quintet.registry.releases import released_expert

Loaded = tuple[str | None, int]
"""An expert and its virtual tokens."""
Begun = tuple[str | None, int, tuple[int, ...]]
"""The same of a sequence, and its blocks."""
PROMPT = tuple(range(10, 74))
BLOCK_SIZE = 16


def write_experts(base: str, folder: Path, count: int, rank: int, dtype: torch.dtype) -> list[Adapter]:
    """Write random low-rank experts of all linear layers."""
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(load_model(base, "cpu", dtype), config)
    for number in range(count):
        model.save_pretrained(folder / str(number))
    return [Adapter(str(number), folder / str(number)) for number in range(count)]


def released(folder: Path) -> list[Adapter]:
    """Return the experts that a project has released."""
    project = Project.load(folder)
    found = [released_expert(project, name) for name in project.config.departments]
    return [Adapter(expert.digest, expert.folder) for expert in found]


def seconds_a_step(runner: ModelRunner, experts: Sequence[Loaded], steps: int) -> float:
    """Return the shortest time of a step in which each sequence, of these experts, gets one token."""
    blocks = count()
    sequences = []
    for name, virtual in experts:
        needed = -(-(virtual + len(PROMPT) + steps) // BLOCK_SIZE)
        sequences.append((name, virtual, tuple(islice(blocks, needed))))
    runner.step([Chunk(name, PROMPT, 0, virtual, own, True) for name, virtual, own in sequences])
    places = iter(range(len(PROMPT), len(PROMPT) + steps))
    return shortest(lambda: step_all(runner, sequences, next(places)), steps)


def step_all(runner: ModelRunner, sequences: Sequence[Begun], place: int) -> None:
    """Compute the token at a place of each sequence, and choose the next one."""
    chunks = [Chunk(name, (11,), place, virtual, own, True) for name, virtual, own in sequences]
    runner.step(chunks).argmax(-1).tolist()


def seconds_of_linear_layers(base: torch.nn.Module, rows: int, times: int) -> float:
    """Return the shortest time of the model's linear layers alone, each called once on this many rows."""
    layers = [module for module in base.modules() if isinstance(module, torch.nn.Linear | PackedLinear | Int8Linear)]
    dtype = next(base.parameters()).dtype
    inputs = {layer.in_features: torch.randn(1, rows, layer.in_features, dtype=dtype) for layer in layers}
    with torch.inference_mode():
        return shortest(lambda: [layer.forward(inputs[layer.in_features]) for layer in layers], times)


def shortest(work: Callable[[], object], times: int) -> float:
    """Return the shortest time of some work: what else the machine does only adds to it."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def main(options: argparse.Namespace) -> None:
    """Print a line for each number of sequences."""
    dtype, steps = getattr(torch, options.dtype), options.steps
    source = locate(options.base, Path())
    runner = ModelRunner(source, "cpu", dtype, blocks=512, block_size=BLOCK_SIZE, int8=options.int8)
    with tempfile.TemporaryDirectory() as folder:
        adapters = (
            released(options.project)
            if options.project
            else write_experts(source, Path(folder), options.experts, options.rank, dtype)
        )
        experts = [(adapter.digest, runner.load(adapter)) for adapter in adapters]
    for number in options.n:
        own = seconds_of_linear_layers(runner._model, number, steps)
        bare = seconds_a_step(runner, [(None, 0)] * number, steps)
        mixed = seconds_a_step(runner, list(islice(cycle(experts), number)), steps)
        print(
            f"{number:3} sequences: base {number / bare:6.1f} tokens/s ({bare * 1e3:.1f} ms a step), "
            f"experts {number / mixed:6.1f} tokens/s ({mixed * 1e3:.1f} ms), linear layers alone {own * 1e3:.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--n", type=int, nargs="+", default=[1, 10], help="numbers of sequences")
    parser.add_argument("--project", type=Path, help="whose released experts are mixed, instead of random ones")
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    main(arguments)
