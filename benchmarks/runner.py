"""How many tokens a second the runner decodes, with experts mixed and without, and what of a step is not the model's.

python -m benchmarks.runner BASE [--n 1 10] [--experts 5] [--rank 16] [--steps 20] [--dtype bfloat16] [--int8]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from quintet.base_model import load_model
from quintet.engine.base import Adapter
from quintet.engine.batch import Chunk
from quintet.engine.torch_runner import TorchRunner
from quintet.packed_linear import Int8Linear, PackedLinear

PROMPT = tuple(range(10, 74))
BLOCK_SIZE = 16


def write_experts(base: str, folder: Path, count: int, rank: int, dtype: torch.dtype) -> list[Adapter]:
    """Write random low-rank experts of all linear layers."""
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(load_model(base, "cpu", dtype), config)
    for number in range(count):
        model.save_pretrained(folder / str(number))
    return [Adapter(str(number), folder / str(number)) for number in range(count)]


def seconds_a_step(runner: TorchRunner, experts: Sequence[str | None], steps: int) -> float:
    """Return the shortest time of a step in which each sequence, of these experts, gets one token."""
    needed = -(-(len(PROMPT) + steps) // BLOCK_SIZE)
    blocks = [tuple(range(number * needed, (number + 1) * needed)) for number in range(len(experts))]
    sequences = list(zip(experts, blocks, strict=True))
    runner.step([Chunk(expert, PROMPT, 0, 0, own, True) for expert, own in sequences])
    places = iter(range(len(PROMPT), len(PROMPT) + steps))
    return shortest(lambda: step_all(runner, sequences, next(places)), steps)


def step_all(runner: TorchRunner, sequences: Sequence[tuple[str | None, tuple[int, ...]]], place: int) -> None:
    """Compute the token at a place of each sequence, and choose the next one."""
    runner.step([Chunk(expert, (11,), place, 0, own, True) for expert, own in sequences]).argmax(-1).tolist()


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
    dtype, experts, steps = getattr(torch, options.dtype), options.experts, options.steps
    runner = TorchRunner(options.base, "cpu", dtype, blocks=256, block_size=BLOCK_SIZE, int8=options.int8)
    with tempfile.TemporaryDirectory() as folder:
        for adapter in write_experts(options.base, Path(folder), experts, options.rank, dtype):
            runner.load(adapter)
    for count in options.n:
        own = seconds_of_linear_layers(runner._model, count, steps)
        bare = seconds_a_step(runner, [None] * count, steps)
        mixed = seconds_a_step(runner, [str(number % experts) for number in range(count)], steps)
        print(
            f"{count:3} sequences: base {count / bare:6.1f} tokens/s ({bare * 1e3:.0f} ms a step), "
            f"experts {count / mixed:6.1f} tokens/s ({mixed * 1e3:.0f} ms), linear layers alone {own * 1e3:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--n", type=int, nargs="+", default=[1, 10], help="numbers of sequences")
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    main(arguments)
