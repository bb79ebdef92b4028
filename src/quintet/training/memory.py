"""How much memory a stretch of work took at its highest: the process's own on a CPU, the device's on a GPU."""

import sys
from contextlib import suppress
from pathlib import Path

import psutil

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: str) -> None:
    """Start anew; where the system cannot, the peak is that of the whole process so far."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        CLEAR.write_text("5")  # proc(5): resets VmHWM


def peak_bytes(device: str) -> int:
    """Return the highest memory in bytes since `reset_peak`."""
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return int(psutil.Process().memory_info().peak_wset)
        import resource

        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest if sys.platform == "darwin" else highest * 1024
