from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quintet.engine.adapters.memory_budget import model_bytes
from quintet.engine.interface import Adapter
from quintet.engine.kernels.int8_linear import multiplies_int8
from quintet.engine.kernels.prepacked_linear import pack, release_mmap
from quintet.engine.runner.model_runner import ModelRunner
from quintet.models.base_model import load_model
from tests.engine.tiny_models import make_base

in_int8 = pytest.mark.skipif(not multiplies_int8(), reason="this CPU multiplies no 8-bit numbers")


@in_int8
def test_weights_of_8_bits_count_a_byte_each(tmp_path: Path) -> None:
    model = load_model(str(make_base(tmp_path, "llama")), "cpu", torch.float32)
    numbers = [module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear)]
    before = model_bytes(model)

    pack(model, "int8")

    # And nothing else is let go or comes.
    assert before - model_bytes(model) == 3 * sum(numbers)


@in_int8
def test_a_full_expert_in_8_bits_takes_what_it_takes_of_the_budget(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    runner = ModelRunner(str(base), "cpu", torch.float32, blocks=16, int8=True)

    prepared = runner.prepare(Adapter("it", make_base(tmp_path / "full", "llama")))

    assert prepared.bytes == model_bytes(prepared.content.model)


@in_int8
def test_a_table_of_embeddings_stays_as_short_as_it_is_stored(tmp_path: Path) -> None:
    model: Any = load_model(str(make_base(tmp_path, "llama")), "cpu", torch.bfloat16)
    table = model.get_input_embeddings().weight.clone()
    ids = torch.tensor([[3, 5, 3]])
    pack(model, "int8")
    before = model_bytes(model)

    release_mmap(model, torch.float32)

    rows = model.get_input_embeddings()(ids)
    assert rows.dtype is torch.float32
    assert torch.equal(rows, table[ids].float())
    norms = sum(module.weight.numel() for name, module in model.named_modules() if name.endswith("norm"))
    assert model_bytes(model) - before == 2 * norms
