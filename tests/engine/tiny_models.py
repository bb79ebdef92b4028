"""Tiny random bases of many architectures, random experts of every kind on them, and what their own `generate` says."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from transformers import (
    AutoConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from quintet.engine.adapters.loader import load_paged
from quintet.engine.adapters.types import Base
from quintet.engine.types import LayerShape
from quintet.models.base_model import load_config, load_model
from quintet.models.peft_model import load_expert_model, quietly, skeleton_of

VOCABULARY = 96
ANSWER = 64
WINDOW = 8
# No end token: every answer has all its tokens. Wide weights: no two tokens are nearly as likely.
TINY: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 160,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
FREE = {name: value for name, value in TINY.items() if not name.startswith("num_key")}
GEMMA = {
    **TINY,
    "tie_word_embeddings": False,
    "head_dim": 16,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}
BASES: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**TINY, tie_word_embeddings=False),
    "llama, tied": lambda: LlamaConfig(**TINY, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**TINY),
    "qwen3": lambda: Qwen3Config(**TINY, head_dim=16),
    "mistral": lambda: MistralConfig(**TINY, sliding_window=WINDOW),
    "gemma2": lambda: Gemma2Config(**GEMMA, query_pre_attn_scalar=16, attn_logit_softcapping=5.0),
    "gemma3": lambda: Gemma3TextConfig(**GEMMA, query_pre_attn_scalar=16),
    "phi": lambda: PhiConfig(**TINY),
    "phi3": lambda: Phi3Config(**TINY, sliding_window=WINDOW),
    "gpt2": lambda: GPT2Config(**FREE),
}
MORE_BASES: Mapping[str, Mapping[str, Any]] = {
    "cohere2": {"sliding_window": WINDOW},
    "gemma": {"head_dim": 16},
    "gpt_neox": {},
    "granite": {},
    "mixtral": {"num_local_experts": 4},
    "olmo2": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": WINDOW},
}
"""By transformers' names: of these, the bare base is tested."""
REFUSED_BASES: Mapping[str, Mapping[str, Any]] = {
    "bloom": {},
    "falcon": {},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 16},
    "llama4_text": {"num_local_experts": 2, "head_dim": 16},
    "mamba": {},
}
CAUSAL: Mapping[str, Any] = {"task_type": "CAUSAL_LM"}
ALL_LINEAR: Mapping[str, Any] = {**CAUSAL, "target_modules": "all-linear", "init_lora_weights": False}
SHARED: Mapping[str, Callable[[], PeftConfig]] = {
    "lora": lambda: LoraConfig(**ALL_LINEAR, r=8, lora_alpha=16),
    "lora, one layer": lambda: LoraConfig(**CAUSAL, r=3, target_modules=r".*\.1\..*(q_proj|v_proj|down_proj)"),
    "lora, many ranks": lambda: LoraConfig(**ALL_LINEAR, r=2, rank_pattern={"o_proj": 5}, alpha_pattern={"v_proj": 9}),
    "lora, of the head": lambda: LoraConfig(**CAUSAL, r=4, target_modules=["lm_head", "k_proj"]),
    "rslora": lambda: LoraConfig(**ALL_LINEAR, r=6, use_rslora=True),
    "adalora": lambda: AdaLoraConfig(**CAUSAL, init_r=6, total_step=9, target_modules=["q_proj", "up_proj"]),
    "ia3": lambda: IA3Config(**CAUSAL, target_modules=["k_proj", "v_proj", "down_proj"],
                             feedforward_modules=["down_proj"]),
    "prefix": lambda: PrefixTuningConfig(**CAUSAL, num_virtual_tokens=5),
    "prefix, longer than a window": lambda: PrefixTuningConfig(**CAUSAL, num_virtual_tokens=WINDOW + 5),
    "prefix, reparameterised": lambda: PrefixTuningConfig(
        **CAUSAL, num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=24
    ),
    "prompt": lambda: PromptTuningConfig(**CAUSAL, num_virtual_tokens=6),
    "p_tuning": lambda: PromptEncoderConfig(**CAUSAL, num_virtual_tokens=3, encoder_hidden_size=16),
}  # fmt: skip
OWN: Mapping[str, Callable[[], PeftConfig]] = {
    "dora": lambda: LoraConfig(**ALL_LINEAR, r=4, use_dora=True),
    "lora, with embeddings": lambda: LoraConfig(**CAUSAL, r=4, target_modules=["embed_tokens", "q_proj"]),
    "lora, with a whole head": lambda: LoraConfig(**CAUSAL, target_modules=["k_proj"], modules_to_save=["lm_head"]),
    "loha": lambda: LoHaConfig(**CAUSAL, r=4, target_modules=["q_proj", "down_proj"]),
    "vera": lambda: VeraConfig(**CAUSAL, r=8, target_modules=["q_proj"], save_projection=True),
}  # fmt: skip
KINDS: Mapping[str, Callable[[], PeftConfig]] = {**SHARED, **OWN}


def make_base(folder: Path, name: str) -> Path:
    """Write a random base of an architecture."""
    torch.manual_seed(4)
    others = {**MORE_BASES, **REFUSED_BASES}
    config = BASES[name]() if name in BASES else AutoConfig.for_model(name, **{**TINY, **others[name]})
    model = AutoModelForCausalLM.from_config(config)
    for path, parameter in model.named_parameters():
        # Layers that outweigh what goes past them and attend sharply, or a random model says one token for ever.
        sharp = any(name in path for name in ("q_proj", "k_proj", "qkv", "c_attn", "q_norm", "k_norm"))
        if parameter.dim() == 1 and "lm_head" not in path:
            shake(parameter, len(path))
        parameter.data.mul_(0.2 if "embed" in path or "wte" in path else 3.0 if sharp else 1.5)
    model.save_pretrained(folder)
    return folder


def shake(parameter: torch.Tensor, seed: int) -> None:
    """Move weights by numbers of their own size, so that an expert says other things than its base."""
    noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    parameter.data.add_(noise, alpha=0.3)


def make_expert(folder: Path, base: Path, kind: str, seed: int = 0) -> Path:
    """Write a random expert of a kind, or, for `full`, the base with other weights."""
    torch.manual_seed(seed + 1)
    model: Any = load_model(str(base), "cpu")
    with warnings.catch_warnings():
        # PEFT tells whoever trains what it corrects by itself.
        warnings.simplefilter("ignore")
        if kind != "full":
            model = get_peft_model(model, KINDS[kind]())
        for number, parameter in enumerate(model.parameters()):
            if parameter.requires_grad:
                shake(parameter, seed * 1000 + number)
        model.save_pretrained(folder)
    return folder


def generate(base: Path, expert: Path | None, prompt: list[int], count: int = ANSWER) -> list[int]:
    """Return what transformers' or PEFT's own greedy generation answers."""
    # Of transformers' own attentions, "eager" alone knows of caps.
    capped = getattr(load_config(str(base)), "attn_logit_softcapping", None) is not None
    loaded: PreTrainedModel = load_model(str(base), "cpu", attention="eager" if capped else None)
    model: Any = load_expert_model(expert, loaded) if expert else loaded
    ids = torch.tensor([prompt])
    with torch.inference_mode(), quietly():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return [int(token) for token in out[0, -count:]]


def base_of(model: PreTrainedModel, shapes: Mapping[int, LayerShape]) -> Base:
    """Return what experts of a model are read for."""
    skeleton = skeleton_of(model, model.dtype)
    return Base(skeleton, shapes, "cpu", lambda: model, lambda folder: load_paged(folder, "cpu", model.dtype))


def stored_in(base: Path, folder: Path, dtype: torch.dtype) -> Path:
    """Write a model's weights in a dtype."""
    load_model(str(base), "cpu", dtype).save_pretrained(folder)
    return folder
