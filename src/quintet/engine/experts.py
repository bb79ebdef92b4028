"""An expert's folder → what a mixed batch needs of it, by kind. PEFT reads the files; knows nothing of batches.

Low-rank parts and IA³'s scales join the shared batch, and virtual tokens need no more than a place in it. What changes
the weights in any other way (DoRA, VeRA, LoHa, trained embeddings, ...) runs as PEFT computes it, in a forward of its
own over the base's own weights, and a fully fine-tuned expert from weights of its own.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType, get_peft_model_state_dict
from peft.tuners.adalora.layer import SVDLinear
from peft.tuners.ia3.layer import Linear as ScaledLinear
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.utils import load_peft_weights
from torch import Tensor
from transformers import PreTrainedModel

from quintet.base_model import load_model
from quintet.engine.mixed_linear import LowRank, Parts, Scale
from quintet.engine.paged_attention import PAGED, LayerShape
from quintet.errors import ModelError
from quintet.expert_model import load_expert_model
from quintet.registry.experts import ADAPTER_CONFIG

EMBEDDED = frozenset({PeftType.PROMPT_TUNING, PeftType.P_TUNING})
"""Virtual tokens that are embeddings; those of prefix tuning are keys and values."""
OF_THEIR_OWN = frozenset(
    {PeftType.LORA, PeftType.ADALORA, PeftType.IA3, PeftType.VERA, PeftType.LOHA, PeftType.LOKR, PeftType.OFT,
     PeftType.BOFT, PeftType.HRA, PeftType.LN_TUNING, PeftType.VBLORA, PeftType.FOURIERFT, PeftType.MISS,
     PeftType.RANDLORA, PeftType.ROAD, PeftType.SHIRA, PeftType.C3A, PeftType.DELORA, PeftType.TRAINABLE_TOKENS}
)  # fmt: skip
"""What changes weights for each token alike, so that PEFT's own layers can compute many sequences in one row."""
_INTO_BASE = ("pissa", "corda", "olora", "mica", "loftq", "lora_ga")
_STORED = {
    PeftType.LORA: ("lora_A.weight", "lora_B.weight"),
    PeftType.ADALORA: ("lora_A", "lora_B", "lora_E"),
    PeftType.IA3: ("ia3_l",),
}
"""The weights of an adapter that a shared batch can take in; with any other, it cannot."""
EXPORT_INSTEAD = "export it with `quintet export DEPARTMENT --format merged` and serve the folder as a full expert"


@dataclass(frozen=True)
class Expert:
    """One expert, ready to compute: `virtual` tokens in front, by states or embeddings; parts; or a model of its own.

    `states` has the keys and values of each layer, `[virtual, K, D]`; `embeddings` is `[virtual, hidden]`.
    """

    virtual: int = 0
    parts: Parts = field(default_factory=dict)
    states: Mapping[int, tuple[Tensor, Tensor]] | None = None
    embeddings: Tensor | None = None
    model: Any = None


def read_expert(folder: Path, template: PreTrainedModel, shapes: Mapping[int, LayerShape]) -> Expert:
    """Return the expert in a folder for a base, whose layers keep `shapes`, and of which `template` is a view.

    The view's modules may be changed by nobody else, its weights are the base's own and stay as they are. Raises
    ModelError with the fix when the files are broken, are of another base, or are of a kind that cannot be served.
    """
    if is_full(folder):
        return Expert(model=load_paged(str(folder), str(template.device), template.dtype))
    config = _read_config(folder)
    _refuse_unservable(config, folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        model = load_expert_model(folder, template)
    _check_whole(model, folder)
    with torch.inference_mode():
        if config.peft_type == PeftType.PREFIX_TUNING:
            return Expert(virtual=config.num_virtual_tokens, states=_read_states(model, shapes, folder))
        if config.peft_type in EMBEDDED:
            return _read_embedded(model, template, folder)
        parts = _read_parts(model, folder)
    return Expert(model=model.get_base_model()) if parts is None else Expert(parts=parts)


def is_full(folder: Path) -> bool:
    """Whether an expert has weights of its own for all of the model."""
    return not (folder / ADAPTER_CONFIG).is_file()


def load_paged(source: str, device: str, dtype: torch.dtype | None) -> PreTrainedModel:
    """Load a model that computes its attention over a paged store, as far as its code lets it be chosen."""
    model = load_model(source, device, dtype)
    model.set_attn_implementation(PAGED)
    return model


def _read_config(folder: Path) -> Any:
    try:
        return PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} is not an adapter's config ({error}); train it again") from error


def _refuse_unservable(config: Any, folder: Path) -> None:
    kind = config.peft_type
    if kind != PeftType.PREFIX_TUNING and kind not in EMBEDDED | OF_THEIR_OWN:
        name = getattr(kind, "value", kind)
        raise ModelError(f"the adapter in {folder} is of the kind {name}, which is not computed token by token and "
                         f"has no place in a mixed batch; {EXPORT_INSTEAD}")  # fmt: skip
    start = getattr(config, "init_lora_weights", None)
    if isinstance(start, str) and start.startswith(_INTO_BASE):
        raise ModelError(f"the adapter in {folder} has init_lora_weights={start!r}, with which PEFT changes the base's "
                         f"weights, which all experts share; {EXPORT_INSTEAD}")  # fmt: skip
    if getattr(config, "alora_invocation_tokens", None) or getattr(config, "layer_replication", None):
        raise ModelError(f"the adapter in {folder} has alora_invocation_tokens or layer_replication, which depend on "
                         f"more than a token; {EXPORT_INSTEAD}")  # fmt: skip


def _check_whole(model: Any, folder: Path) -> None:
    """Raise ModelError when weights are missing, of which PEFT only warns, and leaves them as they start out."""
    stored = load_peft_weights(str(folder), device="cpu").keys()
    missing = sorted(get_peft_model_state_dict(model, save_embedding_layers=False).keys() - stored)
    if missing:
        raise ModelError(f"the adapter in {folder} lacks {len(missing)} weights, such as {missing[0]}; "
                         "copy or train it again")  # fmt: skip


def _read_states(model: Any, shapes: Mapping[int, LayerShape], folder: Path) -> Mapping[int, tuple[Tensor, Tensor]]:
    """Return the keys and values that PEFT puts in front; they are as the cache has them, so nothing rotates them."""
    virtual = model.active_peft_config.num_virtual_tokens
    cache = model.get_prompt(1)
    states = {
        number: (_places(layer.keys, virtual), _places(layer.values, virtual))
        for number, layer in enumerate(cache.layers)
    }
    found = {
        number: LayerShape(keys.shape[1], keys.shape[2], values.shape[2]) for number, (keys, values) in states.items()
    }
    if found != shapes:
        raise ModelError(_of_another_base(folder, f"keys and values {found.get(0)} in {len(found)} layers",
                                          f"{shapes.get(0)} in {len(shapes)}"))  # fmt: skip
    return states


def _places(states_1KLD: Tensor, virtual: int) -> Tensor:
    """Return `[virtual, K, D]`; a layer with a window shorter than the prefix was given its end alone."""
    states_LKD = states_1KLD[0].transpose(0, 1)
    absent = states_LKD.new_zeros(virtual - states_LKD.shape[0], *states_LKD.shape[1:])
    return torch.cat([absent, states_LKD])


def _read_embedded(model: Any, template: PreTrainedModel, folder: Path) -> Expert:
    embeddings_VE = model.get_prompt(1)[0].to(template.dtype)
    width = template.config.get_text_config().hidden_size
    if embeddings_VE.shape[1] != width:
        raise ModelError(_of_another_base(folder, f"embeddings of {embeddings_VE.shape[1]}", str(width)))
    return Expert(virtual=embeddings_VE.shape[0], embeddings=embeddings_VE)


def _of_another_base(folder: Path, found: str, expected: str) -> str:
    return (f"the adapter in {folder} was trained on another base: it has {found}, this base has {expected}; "
            "serve it with its own base, or train it on this one")  # fmt: skip


def _read_parts(model: Any, folder: Path) -> Parts | None:
    """Return what an adapter does to each linear layer, or None where that is not all that it does."""
    endings = _STORED.get(model.active_peft_config.peft_type)
    if endings is None or not all(key.endswith(endings) for key in load_peft_weights(str(folder), device="cpu")):
        return None
    base, name, dtype = model.get_base_model(), model.active_adapter, model.get_base_model().dtype
    parts = {path: _part(layer, name, dtype) for path, layer in _adapted(base)}
    return None if None in parts.values() else {path: part for path, part in parts.items() if part}


def _adapted(base: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    return ((path, module) for path, module in base.named_modules() if hasattr(module, "base_layer"))


def _part(layer: Any, name: str, dtype: torch.dtype) -> LowRank | Scale | None:
    """Return a layer's part as PEFT's layers of that kind compute it, or None where it is of another kind."""
    if type(layer) is LoraLinear and not layer.lora_variant:
        return _low_rank(layer.lora_A[name].weight, layer.lora_B[name].weight * layer.scaling[name], dtype)
    if type(layer) is SVDLinear:
        scaling = layer.scaling[name] / (layer.ranknum[name] + 1e-5)
        return _low_rank(layer.lora_A[name] * layer.lora_E[name], layer.lora_B[name] * scaling, dtype)
    if type(layer) is ScaledLinear:
        return Scale(layer.ia3_l[name].detach().flatten().to(dtype), layer.is_feedforward)
    return None


def _low_rank(down_RI: Any, up_OR: Any, dtype: torch.dtype) -> LowRank:
    return LowRank(down_RI.detach().to(dtype).contiguous(), up_OR.detach().T.to(dtype).contiguous())
