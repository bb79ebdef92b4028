"""One run by several processes, started by `accelerate launch`: which of them this is, and what they agree on."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


def is_main() -> bool:
    """Whether this process is the one that writes and prints; a process on its own is."""
    return int(os.environ.get("RANK", "0")) == 0


def is_shared() -> bool:
    """Whether several processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_sharded() -> bool:
    """Whether they share one copy of the weights between them (FSDP), and not each have its own."""
    return is_shared() and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def agree(make: Callable[[], T]) -> T:
    """Return what `make` gives in the main process, in all of them; the others wait for it."""
    if not is_shared():
        return make()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from quintet.models.base_model import pick_device

    PartialState(cpu=pick_device() == "cpu")
    values: list[Any] = [make() if is_main() else None]
    broadcast_object_list(values)
    return cast(T, values[0])
