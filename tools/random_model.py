"""Make a base of TinyLlama's shape, 1.1 billion weights, with random weights: for timing and memory, not for answers.

python -m tools.random_model FOLDER [--layers 22]
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quintet.models.base_model import NANO_FOLDER


def make(folder: Path, layers: int) -> int:
    """Write the model in bfloat16 with nano's tokenizer, and return how many weights it has."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=3,
    )
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(NANO_FOLDER / name, folder)
    return model.num_parameters()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=22)
    arguments = parser.parse_args()
    print(f"{make(arguments.folder, arguments.layers):,} weights in {arguments.folder}")
