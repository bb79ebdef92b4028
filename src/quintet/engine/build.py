"""Builds the engine of a project: its base, in the precision that serving chose, on this machine.

Imports libraries that compute only when it is called.
"""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from quintet.config import Project

if TYPE_CHECKING:
    from quintet.engine.engine import MixedEngine
    from quintet.engine.precision import ServedPrecision


class BuiltEngine(NamedTuple):
    """An engine, and in which precision it computes and why."""

    engine: "MixedEngine"
    precision: "ServedPrecision"


def build_engine(project: Project) -> BuiltEngine:
    """Load the project's base into an engine; raise ModelError when it cannot be used."""
    from quintet.engine.lazy_imports import import_to_serve
    from quintet.models.base_model import locate

    source = locate(project.config.base_model, project.root)
    # An expert's first question waits for the digest, seconds for some gigabytes, while imports leave a core idle.
    threading.Thread(target=_digest_base, args=(source,), daemon=True).start()
    import_to_serve()  # first: what comes next imports the same libraries, with all that is installed

    from quintet.engine.engine import MixedEngine
    from quintet.engine.precision import served_precision
    from quintet.engine.runner.model_runner import ModelRunner
    from quintet.engine.threads import in_own_thread

    served = served_precision(project)
    runner = in_own_thread(lambda: ModelRunner(source, dtype=served.dtype, int8=served.is_int8))
    # A CPU computes 128 tokens at a time as fast as 512, and those who wait for a token wait for a quarter as long.
    step_tokens = 128 if runner.device_info.device == "cpu" else 512
    settings = project.config.serving
    engine = MixedEngine(
        runner,
        runner.device_info,
        max_queue=settings.max_queue,
        step_tokens=step_tokens,
        expert_memory=settings.expert_memory,
    )
    return BuiltEngine(engine, served)


def _digest_base(source: str) -> None:
    from quintet.models.base_model import base_digest

    # Whatever is wrong with it is told where the digest is needed.
    with suppress(OSError):
        base_digest(source)
