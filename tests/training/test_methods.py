from pathlib import Path

from peft import get_peft_model

from quintet.base_model import load_model
from quintet.config import LoraConfig, TrainingConfig
from quintet.training.methods import peft_config


def test_lora_trains_exactly_two_thin_matrices_for_every_linear_layer(tiny_base: Path) -> None:
    base = load_model(str(tiny_base), "cpu")
    model = get_peft_model(base, peft_config(TrainingConfig(lora=LoraConfig(rank=4))))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # In + out features of q, k, v, o, gate, up, down, of a 32-wide model with 2 of 4 key/value heads.
    features = (32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 64)
    assert trained == 2 * 4 * features
