"""In what numbers a project's base is served: as its config says, or as its machine computes fast. Loads no weights."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from quintet.config import Precision, Project
from quintet.engine.kernels.int8_linear import multiplies_int8
from quintet.engine.kernels.prepacked_linear import computes, packing_of
from quintet.models.base_model import load_config, locate, pick_device

SMALL = 100_000_000
"""Weights; below, single precision is fast enough."""


@dataclass(frozen=True)
class ServedPrecision:
    """The numbers that weights are kept in, and why."""

    precision: Precision
    reason: str

    @property
    def is_int8(self) -> bool:
        """Whether linear layers are rounded to 8 bits."""
        return self.precision == "int8"

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in between, and all of it where nothing is rounded to 8 bits."""
        if self.is_int8:
            return torch.bfloat16 if computes(torch.bfloat16) else torch.float32
        dtype: torch.dtype = getattr(torch, self.precision)
        return dtype


def served_precision(project: Project) -> ServedPrecision:
    """Return how the project's base is served on this machine.

    Raises ModelError when the config asks for what the machine does not do.
    """
    wanted, device = project.config.serving.precision, pick_device()
    if wanted == "int8":
        packing_of(torch.float32, device, int8=True)
    if wanted != "auto":
        return ServedPrecision(wanted, "serving.precision says so")
    if device == "cuda":
        return ServedPrecision("bfloat16", "there is a GPU")
    weights = count_weights(locate(project.config.base_model, project.root))
    if weights < SMALL:
        return ServedPrecision("float32", f"the base is small ({weights / 1e6:.0f} million weights)")
    size = f"the base has {weights / 1e9:.1f} billion weights"
    if multiplies_int8():
        return ServedPrecision("int8", f"{size}, and this CPU multiplies 8-bit numbers")
    if computes(torch.bfloat16):
        return ServedPrecision("bfloat16", f"{size}, and this CPU computes in bfloat16")
    return ServedPrecision("float32", "this CPU computes in nothing shorter")


@cache
def count_weights(source: str) -> int:
    """Return how many weights a base has, from its config alone."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(load_config(source))
    return int(model.num_parameters())
