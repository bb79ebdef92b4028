from pathlib import Path

import torch

from quintet.engine.memory import lazy_zeros

MIB = 2**20


def resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_zeros_take_memory_where_they_are_written_to() -> None:
    before = resident()

    zeros = lazy_zeros((256, MIB), "cpu", torch.bfloat16)
    assert resident() - before < 64 * MIB

    zeros[:64] = 1
    assert zeros[:64].eq(1).all()
    assert zeros[200, 7] == 0
    assert resident() - before > 100 * MIB
