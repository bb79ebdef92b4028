import os
import time
from pathlib import Path

import pytest
import torch

from quintet.engine.threads import in_own_thread

TASKS = Path("/proc/self/task")


def work() -> float:
    """Compute something that all cores take part in."""
    return float(torch.ones(512, 4096).exp().sum())


@pytest.mark.skipif(not TASKS.is_dir() or (os.cpu_count() or 1) < 2, reason="threads are counted on Linux, from two")
def test_the_threads_that_took_part_end_with_the_work() -> None:
    before = set(TASKS.iterdir())

    in_own_thread(work)

    # Their end is told to nobody, and may take a moment.
    until = time.monotonic() + 10
    while (more := set(TASKS.iterdir()) - before) and time.monotonic() < until:
        time.sleep(0.01)
    assert not more


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_own_thread(lambda: 1 / 0)
