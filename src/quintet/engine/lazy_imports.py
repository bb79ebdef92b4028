"""Imports transformers and PEFT without libraries that serving does not use.

transformers imports scikit-learn and SciPy wherever they are installed, for a way of generating and for losses of image
models; PEFT imports bitsandbytes, which loads torch's compiler. Together that is as much again as the rest.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def import_to_serve() -> None:
    """Import transformers and PEFT; what is left out can be imported by whoever wants it later."""
    with _absent("sklearn", "scipy"):
        from transformers import AutoModelForCausalLM  # noqa: F401
    # Not one of PEFT's own questions for it is asked meanwhile, whose answers it would remember.
    with _absent("bitsandbytes"):
        import peft  # noqa: F401


@contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Let libraries seem not to be installed, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    # As Python's reference has it: an import that finds None fails, and nothing is looked for.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
