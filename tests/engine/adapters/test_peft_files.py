"""What is read from an adapter's own files is, number for number, what PEFT makes of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, get_peft_model
from peft.tuners.adalora.layer import SVDLinear
from peft.tuners.ia3.layer import Linear as ScaledLinear
from peft.tuners.lora.layer import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from quintet.engine.adapters.peft_files import WEIGHTS, read_files
from quintet.engine.adapters.types import LoadedAdapter
from quintet.engine.lora.multi_lora import LoRAWeights, Scale
from quintet.engine.types import LayerShape
from quintet.models.base_model import load_model
from quintet.models.peft_model import load_expert_model
from tests.engine.tiny_models import CAUSAL, OWN, SHARED, base_of, make_base, make_expert, shake

SHAPES = {layer: LayerShape(2, 8, 8) for layer in range(2)}
TRUE_AND_FALSE = [True, False, True, True, False, False]
MORE: Mapping[str, PeftConfig] = {
    "lora, some layers": LoraConfig(**CAUSAL, r=2, target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
    "lora, all but": LoraConfig(**CAUSAL, r=2, target_modules=r".*proj", exclude_modules=["o_proj"]),
    "lora, patterns": LoraConfig(**CAUSAL, r=2, target_modules=["q_proj", "v_proj"], use_rslora=True,
                                 rank_pattern={"layers.1.self_attn.q_proj": 7, r"layers\.\d.*v_proj": 3},
                                 alpha_pattern={"0.self_attn.v_proj": 5}),
    "ia3, by expressions": IA3Config(**CAUSAL, target_modules=r".*(k|down)_proj", feedforward_modules=r".*down_proj"),
}  # fmt: skip


@dataclass
class Tiny:
    """A base in each of two precisions, and where its experts are written."""

    folder: Path
    float32: PreTrainedModel
    bfloat16: PreTrainedModel

    def expert(self, kind: str) -> Path:
        """Return a random expert's folder, written once."""
        folder = self.folder / kind
        if not folder.exists():
            if kind in MORE:
                write(folder, self.folder / "base", MORE[kind])
            else:
                make_expert(folder, self.folder / "base", kind)
        return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    base = str(make_base(folder / "base", "llama"))
    return Tiny(folder, load_model(base, "cpu"), load_model(base, "cpu", torch.bfloat16))


def write(folder: Path, base: Path, config: PeftConfig) -> Path:
    model: Any = get_peft_model(load_model(str(base), "cpu"), config)
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            shake(parameter, number)
    model.save_pretrained(folder)
    return folder


def read(folder: Path, base: PreTrainedModel) -> LoadedAdapter | None:
    return read_files(folder, PeftConfig.from_pretrained(str(folder)), base_of(base, SHAPES))


def numbers(expert: LoadedAdapter | None) -> dict[str, Tensor]:
    """All that an expert holds, by a name."""
    assert expert is not None
    parts = [(path, name, each) for path, part in expert.parts.items() for name, each in vars(part).items()]
    found = {f"{path} {name}": torch.as_tensor(each) for path, name, each in parts}
    found |= {
        f"{layer} {side}": each for layer, pair in (expert.states or {}).items() for side, each in enumerate(pair)
    }
    return found if expert.embeddings is None else {"embeddings": expert.embeddings}


def by_peft(folder: Path, base: PreTrainedModel) -> dict[str, Tensor]:
    """The same of PEFT's own model: its layers' weights as they compute with them, or the prompt that it puts first."""
    model = load_expert_model(folder, base)
    if not model.active_peft_config.is_prompt_learning:
        parts = {
            path: part_of(layer, model.active_adapter, base.dtype)
            for path, layer in model.get_base_model().named_modules()
            if hasattr(layer, "base_layer")
        }
        return numbers(LoadedAdapter(parts=parts))
    prompt = model.get_prompt(1)
    if isinstance(prompt, Tensor):
        return numbers(LoadedAdapter(embeddings=prompt[0].to(base.dtype)))
    pairs = {number: (layer.keys[0], layer.values[0]) for number, layer in enumerate(prompt.layers)}
    return numbers(
        LoadedAdapter(states={number: (k.transpose(0, 1), v.transpose(0, 1)) for number, (k, v) in pairs.items()})
    )


def part_of(layer: Any, name: str, dtype: torch.dtype) -> LoRAWeights | Scale:
    kind = type(layer)
    if kind is LoraLinear:
        return LoRAWeights(
            layer.lora_A[name].weight.to(dtype), (layer.lora_B[name].weight * layer.scaling[name]).T.to(dtype)
        )
    if kind is SVDLinear:
        down, values, up, ranks = (each[name] for each in (layer.lora_A, layer.lora_E, layer.lora_B, layer.ranknum))
        return LoRAWeights((down * values).to(dtype), (up * (layer.scaling[name] / (ranks + 1e-5))).T.to(dtype))
    assert kind is ScaledLinear
    return Scale(layer.ia3_l[name].flatten().to(dtype), layer.is_feedforward)


def check_same(folder: Path, base: PreTrainedModel) -> None:
    ours, theirs = numbers(read(folder, base)), by_peft(folder, base)
    assert ours.keys() == theirs.keys()
    for name, number in ours.items():
        assert torch.equal(number, theirs[name]), name
        assert number.dtype in (base.dtype, torch.bool)
        assert number.is_contiguous()


@pytest.mark.parametrize("kind", [*SHARED, *MORE])
def test_every_kind_is_read_as_peft_reads_it(tiny: Tiny, kind: str) -> None:
    check_same(tiny.expert(kind), tiny.float32)


@pytest.mark.parametrize("kind", [*SHARED, *MORE])
def test_for_a_base_of_lower_precision_it_is_rounded_as_peft_rounds_it(tiny: Tiny, kind: str) -> None:
    check_same(tiny.expert(kind), tiny.bfloat16)


@pytest.mark.parametrize("kind", ["lora", "adalora", "ia3", "prefix", "prompt"])
def test_weights_that_were_saved_in_lower_precision_are_read_too(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    source = tiny.expert(kind)
    (tmp_path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    save_file({name: weight.bfloat16() for name, weight in load_file(source / WEIGHTS).items()}, tmp_path / WEIGHTS)
    check_same(tmp_path, tiny.float32)
    check_same(tmp_path, tiny.bfloat16)


@pytest.mark.parametrize("config", [
    LoraConfig(**CAUSAL, r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True),
    IA3Config(**CAUSAL, target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"],
              fan_in_fan_out=True),
])  # fmt: skip
def test_layers_that_keep_their_weights_the_other_way_round_are_read_too(tmp_path: Path, config: PeftConfig) -> None:
    base = make_base(tmp_path / "base", "gpt2")
    check_same(write(tmp_path / "expert", base, config), load_model(str(base), "cpu"))


def test_ranks_that_adalora_pruned_are_left_out(tiny: Tiny, tmp_path: Path) -> None:
    config = AdaLoraConfig(**CAUSAL, init_r=6, lora_alpha=3, total_step=9, target_modules=["q_proj", "k_proj"])
    pruned = "model.layers.1.self_attn.q_proj.lora_E"
    model: Any = get_peft_model(load_model(str(tiny.folder / "base"), "cpu"), config)
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            shake(parameter, number)
    model.peft_config["default"].rank_pattern = {pruned: TRUE_AND_FALSE}
    model.save_pretrained(tmp_path)
    expert = read(tmp_path, tiny.float32)
    assert expert is not None
    part = expert.parts[pruned.removesuffix(".lora_E")]
    assert isinstance(part, LoRAWeights)
    assert part.down_RI.shape[0] == 3
    check_same(tmp_path, tiny.float32)


@pytest.mark.parametrize("kind", OWN)
def test_what_needs_more_than_its_numbers_is_left_to_peft(tiny: Tiny, kind: str) -> None:
    assert read(tiny.expert(kind), tiny.float32) is None


@pytest.mark.parametrize(("kind", "changes"), [
    ("lora", {"r": 4}),
    ("lora", {"lora_bias": True}),
    ("lora", {"rank_pattern": {"q_proj": 3}}),
    ("lora", {"target_modules": ["q_proj"]}),
    ("lora", {"target_modules": "all-linear"}),
    ("lora", {"target_modules": "(("}),
    ("lora, one layer", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    ("lora", {"bias": "all"}),
    ("lora", {"r": "eight"}),
    ("ia3", {"feedforward_modules": []}),
    ("ia3", {"modules_to_save": ["lm_head"]}),
    ("adalora", {"init_r": 5}),
    ("prefix", {"num_virtual_tokens": 9}),
    ("prefix", {"num_attention_heads": 1}),
    ("prompt", {"num_virtual_tokens": 9}),
])  # fmt: skip
def test_what_is_not_as_its_config_says_is_left_to_peft(
    tiny: Tiny, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    config = json.loads((tiny.expert(kind) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    (tmp_path / WEIGHTS).write_bytes((tiny.expert(kind) / WEIGHTS).read_bytes())
    assert read(tmp_path, tiny.float32) is None


def test_a_head_that_is_not_the_bases_is_left_to_peft(tiny: Tiny, tmp_path: Path) -> None:
    source = tiny.expert("lora, of the head")
    weights = load_file(source / WEIGHTS)
    weights["base_model.model.lm_head.base_layer.weight"] += 1
    (tmp_path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    save_file(weights, tmp_path / WEIGHTS)
    assert read(tmp_path, tiny.float32) is None


@pytest.mark.parametrize("kind", ["lora", "ia3", "prefix", "prompt"])
def test_files_that_change_later_change_nothing(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    for file in tiny.expert(kind).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    held = numbers(read(tmp_path, tiny.float32))
    with (tmp_path / WEIGHTS).open("r+b") as weights:
        weights.write(b"\xff" * (tmp_path / WEIGHTS).stat().st_size)
    fresh = numbers(read(tiny.expert(kind), tiny.float32))
    assert all(torch.equal(number, fresh[name]) for name, number in held.items())
