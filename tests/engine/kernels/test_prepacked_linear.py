import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quintet.engine.adapters.loader import load_to_round
from quintet.engine.interface import Adapter
from quintet.engine.kernels.int8_linear import Int8Linear, multiplies_int8
from quintet.engine.kernels.prepacked_linear import (
    FusedLinearPart,
    PackedLinear,
    Packing,
    finding_fusable,
    pack,
    packing_of,
)
from quintet.engine.runner.model_runner import ModelRunner
from quintet.engine.types import Chunk
from quintet.errors import ModelError
from quintet.models.base_model import load_model
from quintet.models.peft_model import load_expert_model
from tests.engine.tiny_models import make_base, make_expert, stored_in

PROMPT = (5, 6, 7, 8)
HALF = packing_of(torch.bfloat16, "cpu", int8=False) == "blocked"
INT8 = multiplies_int8()
in_half = pytest.mark.skipif(not HALF, reason="this CPU does not compute in bfloat16")
in_int8 = pytest.mark.skipif(not INT8, reason="this CPU multiplies no 8-bit numbers")


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=in_half)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (3, 24), (1, 5, 24)])
def test_a_packed_layer_computes_what_the_plain_one_does(
    shape: tuple[int, ...], bias: bool, dtype: torch.dtype
) -> None:
    linear = nn.Linear(24, 40, bias=bias, dtype=dtype)
    x = torch.randn(shape, dtype=dtype)

    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x))


def test_a_weight_that_two_modules_share_stays_as_it_is() -> None:
    model = nn.ModuleDict({"embeddings": nn.Embedding(32, 16), "body": nn.Linear(16, 16), "head": nn.Linear(16, 32)})
    model["head"].weight = model["embeddings"].weight

    pack(model, "blocked")

    assert isinstance(model["body"], PackedLinear)
    assert isinstance(model["head"], nn.Linear)


@in_int8
def test_in_int8_a_shared_head_is_rounded_and_the_embeddings_stay() -> None:
    model = nn.ModuleDict({"embeddings": nn.Embedding(32, 16), "head": nn.Linear(16, 32)})
    model["head"].weight = model["embeddings"].weight

    pack(model, "int8")

    assert isinstance(model["head"], Int8Linear)
    assert isinstance(model["embeddings"], nn.Embedding)


def test_on_a_gpu_nothing_is_packed() -> None:
    assert packing_of(torch.float32, "cuda", int8=False) is None
    with pytest.raises(ModelError, match="VNNI"):
        packing_of(torch.float16, "cuda", int8=True)


class Attention(nn.Module):
    """Three layers of one input, and one of another."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(48, 32), nn.Linear(48, 16, bias=False)
        self.out = nn.Linear(48, 48)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key = self.query(x), self.key(x)
        return query, key, self.out(torch.cat([query, key], -1))


def siblings_of(model: nn.Module) -> list[tuple[str, ...]]:
    """Find the siblings in a model by computing something."""
    with finding_fusable(model) as fused:
        model(torch.randn(1, 3, 48))
    return fused


def test_layers_of_one_input_are_siblings() -> None:
    assert siblings_of(Attention()) == [("query", "key")]


def test_layers_that_are_used_twice_are_no_siblings() -> None:
    layer = nn.Linear(48, 48)
    model = nn.Sequential(layer, layer)

    assert siblings_of(model) == []


PACKINGS = pytest.mark.parametrize("packing", ["blocked", pytest.param("int8", marks=in_int8)])


@PACKINGS
@torch.inference_mode()
def test_siblings_compute_as_one_what_they_do_alone(packing: Packing) -> None:
    model = Attention()
    alone = copy.deepcopy(model)
    pack(alone, packing)

    pack(model, packing, siblings_of(model))

    assert isinstance(model.query, FusedLinearPart)
    for _ in range(2):
        x = torch.randn(1, 3, 48)
        for one, other in zip(model(x), alone(x), strict=True):
            torch.testing.assert_close(one, other)


@PACKINGS
@torch.inference_mode()
def test_a_sibling_that_is_given_an_input_of_its_own_minds_it(packing: Packing) -> None:
    model = Attention()
    alone = copy.deepcopy(model)
    pack(alone, packing)
    pack(model, packing, [("query", "key")])
    one, other = torch.randn(2, 4, 48)

    outputs = [model.query(one), model.key(other), model.query(other), model.query(other)]

    expected = [alone.query(one), alone.key(other), alone.query(other), alone.query(other)]
    torch.testing.assert_close(outputs, expected)


@PACKINGS
@torch.inference_mode()
def test_a_sibling_may_change_its_own_output_in_place(packing: Packing) -> None:
    model = Attention()
    pack(model, packing, [("query", "key")])
    x = torch.randn(4, 48)
    before = model.key(x).clone()

    model.query(x).zero_()

    torch.testing.assert_close(model.key(x), before)


@pytest.mark.parametrize("kind", [None, "lora", "dora", "full"])
@pytest.mark.parametrize(
    ("dtype", "int8", "least"),
    [
        (torch.float32, False, 1 - 1e-6),
        pytest.param(torch.bfloat16, False, 0.999, marks=in_half),
        # Two layers that attend sharply make much of what rounding leaves.
        pytest.param(torch.float32, True, 0.97, marks=in_int8),
    ],
)
def test_packed_weights_say_what_plain_ones_do(
    tmp_path: Path, kind: str | None, dtype: torch.dtype, int8: bool, least: float
) -> None:
    base = make_base(tmp_path / "base", "llama")
    expert = None if kind is None else make_expert(tmp_path / "expert", base, kind)
    runner = ModelRunner(str(base), "cpu", dtype, blocks=16, int8=int8)
    if expert is not None:
        runner.load(Adapter("it", expert))

    packed = runner.step([Chunk("it" if expert else None, PROMPT, 0, 0, (0,), True)])

    plain = load_model(str(base), "cpu", dtype)
    model = plain if expert is None else load_expert_model(expert, plain)
    with torch.inference_mode():
        expected = model(torch.tensor([PROMPT])).logits[:, -1].float()
    assert torch.nn.functional.cosine_similarity(packed, expected) > least


@in_int8
@pytest.mark.parametrize("name", ["llama", "llama, tied", "gemma3", "gpt2"])
@pytest.mark.parametrize("kind", [None, "lora", "prefix", "full"])
def test_int8_of_weights_in_bfloat16_is_the_same_whether_they_are_read_so_or_in_float32(
    tmp_path: Path, name: str, kind: str | None
) -> None:
    made = make_base(tmp_path / "made", name)
    short = stored_in(made, tmp_path / "short", torch.bfloat16)
    long = stored_in(short, tmp_path / "long", torch.float32)
    expert = stored_in(make_base(tmp_path / "other", name), tmp_path / "full", torch.bfloat16)
    if kind not in (None, "full"):
        expert = make_expert(tmp_path / "expert", made, kind)

    answers = []
    for base in (short, long):
        runner = ModelRunner(str(base), "cpu", torch.float32, blocks=16, int8=True)
        virtual = runner.load(Adapter("it", expert)) if kind else 0
        answers.append(runner.step([Chunk("it" if kind else None, PROMPT, 0, virtual, (0,), True)]))

    assert torch.equal(*answers)


@pytest.mark.parametrize(("name", "dtype"), [("llama", torch.bfloat16), ("gemma3", torch.float32)])
def test_what_is_computed_while_loading_is_not_shortened(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    base = stored_in(make_base(tmp_path / "made", name), tmp_path / "base", torch.bfloat16)

    model = load_to_round(str(base), "cpu", torch.float32)

    assert model.dtype is dtype
    assert all(buffer.dtype is not torch.bfloat16 for buffer in model.buffers())
