"""Runs work once in a thread that ends, for the sake of OpenMP.

OpenMP keeps a team of threads for each thread that ever computed. As soon as all teams together have more threads than
there are cores, each thread sleeps after each operation instead of waiting awake for the next, and a step, which has a
thousand of them, takes a third longer. So everything that computes beside the thread of the steps runs here: its team
ends with it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(work: Callable[[], T]) -> T:
    """Return what some work returns, or raise what it raises."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()
