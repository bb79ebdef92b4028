"""Reading an expert's folder: what is light, what is safe beside an engine that goes on, what is refused."""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quintet.engine.adapters import loader
from quintet.engine.adapters.loader import read_expert
from quintet.engine.adapters.types import LoadedAdapter
from quintet.engine.types import LayerShape
from quintet.errors import ModelError
from quintet.models.base_model import load_model
from quintet.models.peft_model import shared_view
from tests.engine.tiny_models import OWN, SHARED, base_of, make_base, make_expert

SHAPES = {layer: LayerShape(2, 8, 8) for layer in range(2)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A base, and an expert of every kind."""
    folder = tmp_path_factory.mktemp("folders")
    base = make_base(folder / "base", "llama")
    return {"base": base, **{kind: make_expert(folder / kind, base, kind) for kind in (*SHARED, *OWN)}}


def test_for_the_common_kinds_no_model_is_built(folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_model(str(folders["base"]), "cpu")
    monkeypatch.setattr(loader, "load_expert_model", lambda *_: pytest.fail("PEFT built a model"))
    for kind in SHARED:
        expert = read_expert(folders[kind], base_of(base, SHAPES))
        assert expert.parts or expert.num_virtual_tokens


def test_experts_are_read_on_many_threads_at_once_and_the_base_is_not_touched(folders: Mapping[str, Path]) -> None:
    base = load_model(str(folders["base"]), "cpu")
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    template = shared_view(base)
    modules = list(template.modules())
    with ThreadPoolExecutor(4) as threads:
        kinds = [*SHARED, *OWN] * 2
        read = list(threads.map(lambda kind: read_expert(folders[kind], base_of(template, SHAPES)), kinds))
    half = len(read) // 2
    assert all(same(*pair) for pair in zip(read[:half], read[half:], strict=True))
    assert list(template.modules()) == modules
    assert all(torch.equal(weight, before[name]) for name, weight in base.state_dict().items())


def same(one: LoadedAdapter, other: LoadedAdapter) -> bool:
    """Whether two experts have the same numbers, up to models of their own."""
    pairs = [(part, other.parts[path]) for path, part in one.parts.items()]
    numbers = [(vars(left)[name], vars(right)[name]) for left, right in pairs for name in vars(left)]
    return one.num_virtual_tokens == other.num_virtual_tokens and all(
        torch.equal(*map(torch.as_tensor, pair)) for pair in numbers
    )


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_weights_that_are_no_numbers_are_refused_for_they_would_reach_the_answers_of_others(
    folders: Mapping[str, Path], tmp_path: Path, kind: str, number: float
) -> None:
    (tmp_path / "adapter_config.json").write_bytes((folders[kind] / "adapter_config.json").read_bytes())
    weights: dict[str, Tensor] = load_file(folders[kind] / "adapter_model.safetensors")
    next(iter(weights.values())).view(-1)[3] = number
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="not finite numbers; train it again"):
        read_expert(tmp_path, base_of(load_model(str(folders["base"]), "cpu"), SHAPES))
