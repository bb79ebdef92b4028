"""The machine and the software that a run was made with, as plain values.

Knows versions, hardware and the project's commit; refuses to know who and where (no host, user, path or variable).
"""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quintet import __version__
from quintet.machine import memory_limit, usable_cores

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "tokenizers",
    "safetensors",
)
PATIENCE = 5.0
"""Seconds that another program may take."""


def describe_environment(root: Path) -> dict[str, Any]:
    """Return versions, hardware (memory in bytes) and the commit of the project folder; None where not known."""
    found = {"python": platform.python_version(), "quintet": __version__}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    name = next(names, None) or _output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    # A container or a batch system may allow fewer than the machine has.
    return {
        "versions": found,
        "platform": platform.platform(),
        "cpu": {
            "model": name.strip() or None,
            "cores": usable_cores(),
        },
        "memory_bytes": memory_limit(),
        "gpus": _gpus(),
        "git": _commit(root),
    }


def _gpus() -> list[dict[str, Any]]:
    try:
        import torch
    except (ImportError, OSError):  # OSError: installed, but one of its libraries does not load
        return []
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in found]


def _commit(root: Path) -> dict[str, Any] | None:
    """Return the commit that holds the folder, and whether the folder differs from it.

    None without git or a repository, and for a folder that no commit holds.
    """
    # No lock that would stand in the way of the user's own git, and no program that the repository names.
    git = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root))
    held = _output_of(*git, "rev-parse", "HEAD", "HEAD:./")
    if held is None:
        return None
    # Training writes to runs/ itself.
    changes = _output_of(*git, "status", "--porcelain", "--", ".", ":(exclude)runs")
    return {"commit": held.split()[0], "dirty": None if changes is None else bool(changes)}


def _output_of(name: str, *arguments: str) -> str | None:
    """Return what a program prints, or None when it is missing, fails or takes too long."""
    program = shutil.which(name)
    if program is None:
        return None
    # Set inside a git hook, where they would name another repository than the folder's.
    environment = {k: v for k, v in os.environ.items() if k not in {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}}
    try:
        done = subprocess.run(  # noqa: S603  programs named here, no shell
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else None
