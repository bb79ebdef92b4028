"""An expert's model, on a base that all share."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from quintet.models.base_model import load_model
from quintet.models.peft_model import load_expert_model, skeleton_of
from tests.engine.tiny_models import CAUSAL, make_base


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("base", ["llama", "llama, tied"])
def test_what_an_adapter_brings_along_of_the_base_is_its_own_and_changes_nobody_elses(
    tmp_path: Path, base: str
) -> None:
    model = load_model(str(make_base(tmp_path / "base", base)), "cpu")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    trained = load_model(str(tmp_path / "base"), "cpu")
    adapter = LoraConfig(**CAUSAL, r=2, target_modules=["embed_tokens", "q_proj"])
    get_peft_model(trained, adapter).save_pretrained(str(tmp_path / "expert"))
    file = tmp_path / "expert" / "adapter_model.safetensors"
    weights = load_file(file)
    stored = "base_model.model.model.embed_tokens.base_layer.weight"
    save_file({**weights, stored: weights[stored] + 1}, file)
    expert: Any = load_expert_model(tmp_path / "expert", model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    embeddings = expert.get_base_model().get_input_embeddings()
    assert torch.equal(embeddings.base_layer.weight, weights[stored] + 1)
    path = "model.layers.0.mlp.up_proj.weight"
    assert expert.get_base_model().get_parameter(path) is model.get_parameter(path)


def test_a_skeleton_keeps_none_of_the_weights_that_it_was_made_of(tmp_path: Path) -> None:
    model = load_model(str(make_base(tmp_path / "base", "llama")), "cpu")
    weight = weakref.ref(model.get_input_embeddings().weight)
    skeleton = skeleton_of(model, model.dtype)
    del model
    gc.collect()
    assert weight() is None
    assert {parameter.device.type for parameter in skeleton.parameters()} == {"meta"}
