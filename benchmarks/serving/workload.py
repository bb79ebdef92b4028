"""What the contestants are given: random experts of a base, the same in llama.cpp's format, and random prompts."""

import random
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import load_peft_weights

from benchmarks.serving.contestant import Load
from quintet.chat import ChatTranslator
from quintet.models.base_model import load_model, load_tokenizer

GGUF_NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
              "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}  # fmt: skip


def write_experts(base: str, folder: Path, count: int, rank: int, dtype: str) -> list[str]:
    """Write random low-rank experts of all linear layers."""
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(load_model(base, "cpu", getattr(torch, dtype)), config)
    for number in range(count):
        for name, weight in model.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(weight, std=0.02)
        model.save_pretrained(folder / str(number))
    return [str(folder / str(number)) for number in range(count)]


def write_gguf_base(base: str, path: Path) -> str:
    """Write the base for llama.cpp, in bfloat16."""
    from quintet.export.formats import Dtype
    from quintet.export.llama_cpp import write_gguf

    translator = ChatTranslator(load_tokenizer(base))
    write_gguf(load_model(base, "cpu", torch.float32), translator, "base", Dtype.BFLOAT16, path)
    return str(path)


def write_gguf_expert(expert: str, path: Path) -> str:
    """Write an expert for llama.cpp, for timing alone: what rows mean, which differs there, does not matter to it."""
    import gguf

    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for key, weight in load_peft_weights(expert, device="cpu").items():
        parts = key.split(".")
        layer, name, which = parts[parts.index("layers") + 1], parts[-3], parts[-2][-1].lower()
        writer.add_tensor(f"blk.{layer}.{GGUF_NAMES[name]}.weight.lora_{which}", weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def make_load(seed: int, count: int, length: int, tokens: int, experts: int, words: int, *, mixed: bool) -> Load:
    """Return random prompts, never the same twice, so that nobody's prefix cache knows them."""
    draw = random.Random(seed)
    prompts = [[draw.randrange(10, words) for _ in range(length)] for _ in range(count)]
    return Load(prompts, [number % experts if mixed else -1 for number in range(count)], tokens)
