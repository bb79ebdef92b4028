from pathlib import Path

import pytest
import torch
from torch import nn

from quintet.base_model import load_model
from quintet.engine.base import Adapter
from quintet.engine.batch import Chunk
from quintet.engine.packed_linear import PackedLinear, can_pack, pack
from quintet.engine.torch_runner import TorchRunner
from quintet.expert_model import load_expert_model
from tests.engine.tiny_models import make_base, make_expert

PROMPT = (5, 6, 7, 8)
pytestmark = pytest.mark.skipif(not can_pack(torch.bfloat16, "cpu"), reason="this CPU does not compute in bfloat16")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (3, 24), (1, 5, 24)])
def test_a_packed_layer_computes_what_the_plain_one_does(shape: tuple[int, ...], bias: bool) -> None:
    linear = nn.Linear(24, 40, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(shape, dtype=torch.bfloat16)

    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x))


def test_a_weight_that_two_modules_share_stays_as_it_is() -> None:
    model = nn.ModuleDict({"embeddings": nn.Embedding(32, 16), "body": nn.Linear(16, 16), "head": nn.Linear(16, 32)})
    model = model.to(torch.bfloat16)
    model["head"].weight = model["embeddings"].weight

    pack(model)

    assert isinstance(model["body"], PackedLinear)
    assert isinstance(model["head"], nn.Linear)


def test_single_precision_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(16, 16))

    pack(model)

    assert isinstance(model[0], nn.Linear)


@pytest.mark.parametrize("kind", [None, "lora", "dora", "full"])
def test_packed_weights_say_what_plain_ones_do(tmp_path: Path, kind: str | None) -> None:
    base = make_base(tmp_path / "base", "llama")
    expert = None if kind is None else make_expert(tmp_path / "expert", base, kind)
    runner = TorchRunner(str(base), "cpu", torch.bfloat16, blocks=16)
    if expert is not None:
        runner.load(Adapter("it", expert))

    packed = runner.step([Chunk("it" if expert else None, PROMPT, 0, 0, (0,), True)])

    plain = load_model(str(base), "cpu", torch.bfloat16)
    model = plain if expert is None else load_expert_model(expert, plain)
    with torch.inference_mode():
        expected = model(torch.tensor([PROMPT])).logits[:, -1].float()
    # Sums in another order, in eight bits of mantissa, through two layers that attend sharply.
    torch.testing.assert_close(packed, expected, rtol=0.1, atol=0.25)
