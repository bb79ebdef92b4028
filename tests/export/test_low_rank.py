"""The low-rank delta of two models: by hand on small matrices, and as an adapter that answers as the other model."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quintet.engine.adapters.loader import load_paged, read_expert
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Adapter, Request, SamplingParams
from quintet.engine.runner.model_runner import ModelRunner
from quintet.errors import ExportError
from quintet.export.low_rank import Fit, check_rank, cut, decompose, write_adapter
from quintet.models.base_model import load_model
from tests.engine.tiny_models import base_of, generate, make_base, shake

PROMPT = [5, 60, 70, 80, 90]
FULL_RANK = 64
ARCHITECTURES = ["llama", "llama, tied", "qwen2", "qwen3", "phi3", "gpt2"]


class Pair(nn.Module):
    """An embedding, a norm and two linear layers, one of them tied to the embedding where asked for."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.norm = nn.LayerNorm(2, bias=False)
        self.linear = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 3, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


def test_the_nearest_matrix_keeps_the_largest_singular_values() -> None:
    # Singular values 3 and 1, along (1, 1) and (1, -1): 3/2 [[1, 1], [1, 1]] remains, with 9/10 of the squared norm.
    part = cut(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), 1)
    assert torch.allclose(part.up @ part.down, torch.full((2, 2), 1.5))
    assert part.kept == pytest.approx(0.9)


def test_a_matrix_with_more_rows_than_columns_is_cut_as_well() -> None:
    # Columns at right angles, of lengths 5 and 2: the shorter one goes, and 25/29 of the norm remain.
    part = cut(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]]), 1)
    assert torch.allclose(part.up @ part.down, torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 0.0]]), atol=1e-6)
    assert (part.up.shape, part.down.shape) == ((3, 1), (1, 2))
    assert part.kept == pytest.approx(25 / 29)


def test_no_matrix_has_more_ranks_than_its_smaller_side() -> None:
    matrix = torch.tensor([[3.0, 1.0], [4.0, 0.0], [0.0, 2.0]])
    part = cut(matrix, 7)
    assert torch.allclose(part.up @ part.down, matrix, atol=1e-6)
    assert part.down.shape == (2, 2)


def test_the_fit_weighs_layers_by_what_changed_and_names_the_worst() -> None:
    base, full = Pair(), Pair()
    full.linear.weight.data = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    full.head.weight.data = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
    full.norm.weight.data = torch.tensor([1.0, 0.0])
    full.embed.weight.data[0] = torch.tensor([3.0, 4.0])
    parts, fit = decompose(base, full, 1)
    # Squared norms: 10, of which 9 are kept; 29, of which 25 are; 1 of the norm and 25 of the embeddings are not held.
    assert parts.keys() == {"linear", "head"}
    assert fit == Fit(
        rank=1,
        layers=2,
        kept=round(34 / 39, 4),
        worst=round(25 / 29, 4),
        worst_layer="head",
        not_held={"embeddings": round(25 / 65, 4), "norms and biases": round(1 / 65, 4)},
    )


def test_a_tied_head_is_a_linear_layer_and_its_embeddings_are_not_held() -> None:
    base, full = Pair(tied=True), Pair(tied=True)
    full.head.weight.data = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 0.0]])
    parts, fit = decompose(base, full, 1)
    assert parts.keys() == {"head"}
    assert (fit.kept, fit.not_held) == (1.0, {"embeddings": 0.5})


def test_linear_layers_that_did_not_change_have_no_delta() -> None:
    base, full = Pair(), Pair()
    full.embed.weight.data += 1
    with pytest.raises(ExportError, match="all linear layers are the base's own"):
        decompose(base, full, 1)
    full.linear.weight.data += 1
    assert decompose(base, full, 1)[0].keys() == {"linear"}


def test_a_rank_that_wins_nothing_is_refused_with_the_largest_that_does() -> None:
    # 16 rows of 16 have 256 numbers, and a delta 32 a rank.
    model = nn.Sequential(nn.Linear(16, 16))
    check_rank(model, 7)
    for rank in (8, 16, 1000):
        with pytest.raises(ExportError, match=rf"--as-delta {rank}: .* for 256: .* a rank of at most 7"):
            check_rank(model, rank)


def change_linear_layers(model: PreTrainedModel) -> None:
    """Move the linear layers' weights, but for a head's that are the embeddings' too."""
    tied = model.get_input_embeddings().weight
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.Linear | Conv1D) and module.weight is not tied:
            shake(module.weight, number)


Made = tuple[Path, Path, Path]


def make(folder: Path, name: str, change: Callable[[PreTrainedModel], None], rank: int = FULL_RANK) -> Made:
    """Write a base, the same with other weights, and the delta of a rank between the two."""
    base = make_base(folder / "base", name)
    full = load_model(str(base), "cpu")
    change(full)
    full.save_pretrained(folder / "full")
    parts, _ = decompose(load_model(str(base), "cpu"), full, rank)
    write_adapter(parts, rank, str(base), torch.float32, folder / "delta")
    return base, folder / "full", folder / "delta"


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False but the target module is `Conv1D`")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_all_ranks_the_delta_answers_as_the_full_model_token_for_token(tmp_path: Path, name: str) -> None:
    base, full, delta = make(tmp_path, name, change_linear_layers)
    expected = generate(base, full, PROMPT)
    assert generate(base, delta, PROMPT) == expected
    assert generate(base, None, PROMPT) != expected
    assert answers(base, [None, delta, delta, None]) == [
        generate(base, None, PROMPT), expected, expected, generate(base, None, PROMPT),
    ]  # fmt: skip


def answers(base: Path, experts: list[Path | None]) -> list[list[int | None]]:
    """Answer the prompt by each of the experts at once, in the engine."""
    engine = MixedEngine(ModelRunner(str(base), "cpu"))

    async def ask(expert: Path | None) -> list[int | None]:
        adapter = None if expert is None else Adapter(str(expert), expert)
        sampling = SamplingParams(max_tokens=64, temperature=0)
        return [token.id async for token in engine.generate(Request(tuple(PROMPT), (-1,), sampling, adapter))]

    async def ask_all() -> list[list[int | None]]:
        said = await asyncio.gather(*map(ask, experts))
        await engine.close()
        return said

    return asyncio.run(ask_all())


@pytest.mark.parametrize("name", ["llama", "llama, tied"])
def test_the_delta_joins_the_shared_batch_head_and_all(tmp_path: Path, name: str) -> None:
    base, _, delta = make(tmp_path, name, shake_all, rank=4)
    expert = read_expert(delta, base_of(load_paged(str(base), "cpu", None), {}))
    assert expert.model is None
    assert "lm_head" in expert.parts
    assert len(expert.parts) == 2 * 7 + 1


def shake_all(model: PreTrainedModel) -> None:
    for number, parameter in enumerate(model.parameters()):
        shake(parameter, number)


def test_the_adapter_scales_by_one_and_narrow_layers_have_their_own_rank(tmp_path: Path) -> None:
    _, _, delta = make(tmp_path, "llama", change_linear_layers, rank=20)
    config = LoraConfig.from_pretrained(str(delta))
    # Keys and values are 16 wide.
    assert (config.r, config.lora_alpha) == (20, 20)
    assert set(config.rank_pattern.values()) == set(config.alpha_pattern.values()) == {16}
    assert len(config.rank_pattern) == 4
    assert len(config.target_modules or ()) == 15
