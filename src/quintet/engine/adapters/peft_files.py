"""An adapter's own files → an expert, for the kinds that are met every day. Knows no batches, and refuses nothing.

PEFT reads an adapter by building its layers into a model: most of a second of Python, in which every other thread
waits. Here each weight's layer is found by its name. Whatever is not exactly as expected is left to PEFT, which serves
it or says what is wrong.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftType
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quintet.engine.adapters.types import Base, LoadedAdapter
from quintet.engine.lora.multi_lora import LoRAWeights, Scale

WEIGHTS = "adapter_model.safetensors"
OF_BASE = "base_model.model."
"""What PEFT puts in front of the name of a layer."""
VIRTUAL = "prompt_embeddings"

_ABOUT = frozenset({"task_type", "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision",
                    "inference_mode"})  # fmt: skip
_PLACES = frozenset({"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"})
_OF_VIRTUAL = _ABOUT | {"num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads",
                        "num_layers", "encoder_hidden_size"}  # fmt: skip
_OF_LORA = _ABOUT | _PLACES | {"r", "lora_alpha", "lora_dropout", "init_lora_weights", "rank_pattern"}
_KNOWN: Mapping[PeftType, frozenset[str]] = {
    PeftType.LORA: _OF_LORA | {"use_rslora", "alpha_pattern"},
    PeftType.ADALORA: _OF_LORA | {"init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2",
                                  "orth_reg_weight", "total_step"},
    PeftType.IA3: _ABOUT | _PLACES | {"feedforward_modules", "init_ia3_weights"},
    PeftType.PREFIX_TUNING: _OF_VIRTUAL | {"prefix_projection", "init_weights"},
    PeftType.PROMPT_TUNING: _OF_VIRTUAL | {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path",
                                           "tokenizer_kwargs"},
    PeftType.P_TUNING: _OF_VIRTUAL | {"encoder_reparameterization_type", "encoder_num_layers", "encoder_dropout"},
}  # fmt: skip
"""The options of each kind that are minded here, or do not matter any more: with any other, PEFT reads it."""


class _Unlike(Exception):  # noqa: N818
    """The files are not what their config lets expect."""


@torch.inference_mode()
def read_files(folder: Path, config: Any, base: Base) -> LoadedAdapter | None:
    """Return the expert of a folder and its config for a base, or None: ask PEFT."""
    if not _is_known(config):
        return None
    try:
        weights = _Weights(load_file(folder / WEIGHTS, device=base.device))
        expert = _READ[config.peft_type](config, weights, base)
        weights.check_all_taken()
    except (_Unlike, OSError, SafetensorError, TypeError, ValueError, ArithmeticError, re.error):
        return None
    return expert


def _is_known(config: Any) -> bool:
    """Whether all options that are not at their default are known."""
    if config.peft_type not in _KNOWN:
        return False
    others = [option for option in fields(config) if option.name not in _KNOWN[config.peft_type]]
    return all(
        getattr(config, option.name)
        == (option.default if option.default_factory is MISSING else option.default_factory())
        for option in others
    )


class _Weights:
    """An adapter's weights by name; each is to be taken once."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._left = weights

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a weight of this shape."""
        weight = self._left.pop(name, None)
        if weight is None or weight.shape != shape:
            raise _Unlike(name)
        return weight

    def check_base(self, path: str, base: Base) -> None:
        """Take what is stored of the base itself, as PEFT does with heads: it must be what the base has."""
        stored = self._left.pop(f"{OF_BASE}{path}.base_layer.weight", None)
        if stored is None:
            return
        weight: Any = base.weights().get_submodule(path).weight
        if not torch.equal(stored.to(weight.dtype), weight):
            raise _Unlike(path)

    def check_all_taken(self) -> None:
        if self._left:
            raise _Unlike(*self._left)


def _read_embeddings(config: Any, weights: _Weights, base: Base) -> LoadedAdapter:
    num_virtual_tokens = config.num_virtual_tokens
    embeddings_VE = weights.take(VIRTUAL, num_virtual_tokens, base.skeleton.config.get_text_config().hidden_size)
    return LoadedAdapter(
        num_virtual_tokens=num_virtual_tokens, embeddings=embeddings_VE.to(base.skeleton.dtype, copy=True)
    )


def _read_states(config: Any, weights: _Weights, base: Base) -> LoadedAdapter:
    """Read keys and values as the cache has them: of each token, in each layer, the keys and behind them the values."""
    shapes = base.shapes
    num_virtual_tokens, (heads, size, _) = config.num_virtual_tokens, shapes[0]
    if set(shapes.values()) != {(heads, size, size)} or config.num_attention_heads != heads:
        raise _Unlike(VIRTUAL)
    stored_VX = weights.take(VIRTUAL, num_virtual_tokens, len(shapes) * 2 * heads * size)
    stored_LVKD = stored_VX.to(base.skeleton.dtype).view(num_virtual_tokens, -1, heads, size).transpose(0, 1)
    states_LVKD = stored_LVKD.clone(memory_format=torch.contiguous_format)
    pairs = zip(states_LVKD[::2], states_LVKD[1::2], strict=True)
    return LoadedAdapter(num_virtual_tokens=num_virtual_tokens, states=dict(enumerate(pairs)))


def _read_parts(config: Any, weights: _Weights, base: Base) -> LoadedAdapter:
    read, parts = _PARTS[config.peft_type], {}
    for path, layer in _targets(config, base.skeleton):
        weights.check_base(path, base)
        parts[path] = read(config, weights, path, layer, base.skeleton.dtype)
    return LoadedAdapter(parts=parts)


def _targets(config: Any, base: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield each layer that an adapter changes, by its path."""
    if config.target_modules is None or config.target_modules == "all-linear":
        raise _Unlike("target_modules")
    for path, layer in base.named_modules():
        if path and check_target_module_exists(config, path):
            yield path, layer


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """Return how many inputs and outputs a linear layer has."""
    if type(layer) is nn.Linear:
        return layer.in_features, layer.out_features
    if type(layer) is Conv1D:
        return layer.nx, layer.nf
    raise _Unlike(type(layer))


def _read_lora(config: Any, weights: _Weights, path: str, layer: nn.Module, dtype: torch.dtype) -> LoRAWeights:
    inputs, outputs = _sizes(layer)
    rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, path), config.r)
    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, path), config.lora_alpha)
    down_RI = weights.take(f"{OF_BASE}{path}.lora_A.weight", rank, inputs)
    up_OR = weights.take(f"{OF_BASE}{path}.lora_B.weight", outputs, rank)
    return _low_rank(down_RI, up_OR.float() * (alpha / (math.sqrt(rank) if config.use_rslora else rank)), dtype)


def _read_adalora(config: Any, weights: _Weights, path: str, layer: nn.Module, dtype: torch.dtype) -> LoRAWeights:
    """Read singular vectors and values of the ranks that were not pruned."""
    inputs, outputs = _sizes(layer)
    kept = (config.rank_pattern or {}).get(f"{path}.lora_E")
    rank = config.init_r if kept is None else sum(kept)
    down_RI = weights.take(f"{OF_BASE}{path}.lora_A", rank, inputs).float()
    up_OR = weights.take(f"{OF_BASE}{path}.lora_B", outputs, rank).float()
    values_R1 = weights.take(f"{OF_BASE}{path}.lora_E", rank, 1).float()
    alpha = config.lora_alpha if config.lora_alpha > 0 else rank
    return _low_rank(down_RI * values_R1, up_OR * (alpha / (up_OR.new_tensor(config.init_r) + 1e-5)), dtype)


def _read_ia3(config: Any, weights: _Weights, path: str, layer: nn.Module, dtype: torch.dtype) -> Scale:
    inputs, outputs = _sizes(layer)
    named = config.feedforward_modules
    of_input = bool(re.fullmatch(named, path)) if isinstance(named, str) else path.endswith(tuple(named))
    factors = weights.take(f"{OF_BASE}{path}.ia3_l", *((1, inputs) if of_input else (outputs, 1)))
    return Scale(factors.flatten().to(dtype, copy=True), of_input)


def _low_rank(down_RI: Tensor, up_OR: Tensor, dtype: torch.dtype) -> LoRAWeights:
    """Return an expert's part of a layer, in memory of its own."""
    return LoRAWeights(down_RI.to(dtype, copy=True).contiguous(), up_OR.T.to(dtype, copy=True).contiguous())


_PARTS: Mapping[PeftType, Callable[[Any, _Weights, str, nn.Module, torch.dtype], LoRAWeights | Scale]] = {
    PeftType.LORA: _read_lora,
    PeftType.ADALORA: _read_adalora,
    PeftType.IA3: _read_ia3,
}
_READ: Mapping[PeftType, Callable[[Any, _Weights, Base], LoadedAdapter]] = {
    **dict.fromkeys(_PARTS, _read_parts),
    PeftType.PREFIX_TUNING: _read_states,
    PeftType.PROMPT_TUNING: _read_embeddings,
    PeftType.P_TUNING: _read_embeddings,
}
