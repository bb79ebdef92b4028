"""Departments trained side by side, each in a process of its own: its memory is its own, and so is its death."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from pathlib import Path

from quintet.config import Project
from quintet.errors import QuintetError, TrainingError
from quintet.machine import usable_cores
from quintet.registry.experts import Expert
from quintet.training.department import Listener, train_department
from quintet.training.plan import ROOM, available_bytes, least_bytes, read_estimate, stages
from quintet.training.preparation import Plan

LIBRARIES_BYTES = 700_000_000
"""What a process holds before it has loaded a model: torch, transformers, TRL."""


def side_by_side(project: Project, plans: Sequence[Plan], wanted: int) -> int:
    """Return how many of the plans may run at once, at most `wanted`: as many of the hungriest as the memory holds."""
    room = ROOM * available_bytes()
    hungriest = sorted((_expected_bytes(project, plan) for plan in plans), reverse=True)
    fit = [count for count in range(1, len(plans) + 1) if sum(hungriest[:count]) <= room]
    return max(1, min(wanted, max(fit, default=1)))


def _expected_bytes(project: Project, plan: Plan) -> int:
    """Return the memory that `quintet plan` measured for exactly this plan, or the least that its shape needs."""
    found = [read_estimate(project, stage) for stage in stages(plan)]
    return max(
        LIBRARIES_BYTES + least_bytes(stage)["peak_bytes"] if known is None else known.peak_bytes
        for stage, known in zip(stages(plan), found, strict=True)
    )


def train_side_by_side(
    project: Project, plans: Sequence[Plan], listener: Listener, count: int, *, force: bool, resume: bool
) -> "list[Future[Expert]]":
    """Train the plans, `count` at a time, and return what became of each, in their order."""
    threads = max(1, usable_cores() // count)
    pool = ThreadPoolExecutor(count)
    try:
        futures = [pool.submit(_train_apart, project.root, plan, listener, threads, force, resume) for plan in plans]
        wait(futures)
    except BaseException:  # Ctrl+C: no other department is begun, and those that train are ended
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()
    return futures


def _train_apart(root: Path, plan: Plan, listener: Listener, threads: int, force: bool, resume: bool) -> Expert:
    """Train in a process of its own, and pass on what it tells; raise TrainingError when it dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = (theirs, root, plan, threads, force, resume)
    process = context.Process(target=_child, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            told = ours.recv()
            if isinstance(told, Expert):
                return told
            if isinstance(told, str):
                raise TrainingError(told)
            listener(told)
    except EOFError:
        process.join()
        raise TrainingError(
            f"its process ended with code {process.exitcode} and without a word, most likely for want of memory; "
            f"lower --parallel, and go on with: quintet train {plan.department} --resume"
        ) from None
    finally:
        process.join()
        ours.close()


def _child(pipe: Connection, root: Path, plan: Plan, threads: int, force: bool, resume: bool) -> None:
    import torch

    torch.set_num_threads(threads)
    try:
        project = Project.load(root)
        pipe.send(train_department(project, plan, pipe.send, force=force, resume=resume))
    except QuintetError as error:
        pipe.send(str(error))
    except KeyboardInterrupt:
        pass  # the parent was told as well
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        raise
