"""What this process may use of the machine: memory and cores, as the container or the scheduler allows."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def memory_limit() -> int:
    """Return how many bytes the process may use: the machine's memory, or the least limit of its control groups."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for file in _limit_files():
        with suppress(OSError, ValueError):  # the file says "max" where there is no limit
            limits.append(int(file.read_text("utf-8")))
    return min(limits)


def usable_cores() -> int:
    """Return how many cores the process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit_files() -> Iterator[Path]:
    """Yield where limits of the process's own control group and of those above it may stand, in either version."""
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = CGROUPS / "memory" if controllers else CGROUPS
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            own = root / path.lstrip("/")
            yield from (folder / name for folder in (own, *own.parents) if folder.is_relative_to(root))
