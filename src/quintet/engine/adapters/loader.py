"""An expert's folder → what a mixed batch needs of it, by kind. Knows nothing of batches.

Low-rank parts and IA³'s scales join the shared batch, and virtual tokens need no more than a place in it. What changes
the weights in any other way (DoRA, VeRA, LoHa, trained embeddings, ...) runs as PEFT computes it, in a forward of its
own over the base's own weights, and a fully fine-tuned expert from weights of its own.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from peft import PeftConfig, PeftType, get_peft_model_state_dict
from peft.utils import load_peft_weights
from torch import Tensor
from transformers import PreTrainedModel

from quintet.engine.adapters.peft_files import read_files
from quintet.engine.adapters.types import Base, LoadedAdapter
from quintet.engine.types import PAGED, LayerShape
from quintet.errors import ModelError
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.models.base_model import load_model, own_dtype
from quintet.models.peft_model import load_expert_model

EMBEDDED = frozenset({PeftType.PROMPT_TUNING, PeftType.P_TUNING})
"""Virtual tokens that are embeddings; those of prefix tuning are keys and values."""
OF_THEIR_OWN = frozenset(
    {PeftType.LORA, PeftType.ADALORA, PeftType.IA3, PeftType.VERA, PeftType.LOHA, PeftType.LOKR, PeftType.OFT,
     PeftType.BOFT, PeftType.HRA, PeftType.LN_TUNING, PeftType.VBLORA, PeftType.FOURIERFT, PeftType.MISS,
     PeftType.RANDLORA, PeftType.ROAD, PeftType.SHIRA, PeftType.C3A, PeftType.DELORA, PeftType.TRAINABLE_TOKENS}
)  # fmt: skip
"""What changes weights for each token alike, so that PEFT's own layers can compute many sequences in one row."""
_INTO_BASE = ("pissa", "corda", "olora", "mica", "loftq", "lora_ga")
EXPORT_INSTEAD = "export it with `quintet export DEPARTMENT --format merged` and serve the folder as a full expert"

_BUILDING = Lock()
"""One model at a time: meanwhile the filters of warnings and torch's default dtype are not the process's own."""


def read_expert(folder: Path, base: Base) -> LoadedAdapter:
    """Return the expert in a folder for a base.

    May be called from any thread. Raises ModelError with the fix when the files are broken, are of another base, or are
    of a kind that cannot be served.
    """
    if is_full(folder):
        with _BUILDING:
            return LoadedAdapter(model=base.load(str(folder)))
    config = _read_config(folder)
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
    expert = read_files(folder, config, base)
    expert = expert or _read_through_peft(folder, config, base.weights(), base.shapes)
    tensors = [each for part in expert.parts.values() for each in vars(part).values() if isinstance(each, Tensor)]
    if tensors and not torch.stack([each.isfinite().all() for each in tensors]).all():
        raise ModelError(f"the adapter in {folder} has weights that are not finite numbers; train it again")
    return expert


def _read_through_peft(
    folder: Path, config: Any, template: PreTrainedModel, shapes: Mapping[int, LayerShape]
) -> LoadedAdapter:
    """Return the expert that PEFT builds into a view of the template; with other layers, as a model of its own."""
    with _BUILDING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        model = load_expert_model(folder, template)
    stored = load_peft_weights(str(folder), device="cpu").keys()
    missing = sorted(get_peft_model_state_dict(model, save_embedding_layers=False).keys() - stored)
    if missing:
        raise ModelError(f"the adapter in {folder} lacks {len(missing)} weights, such as {missing[0]}; "
                         "copy or train it again")  # fmt: skip
    with torch.inference_mode():
        if config.peft_type == PeftType.PREFIX_TUNING:
            num_virtual_tokens = model.active_peft_config.num_virtual_tokens
            cache = model.get_prompt(1)
            states = {
                number: (_places(layer.keys, num_virtual_tokens), _places(layer.values, num_virtual_tokens))
                for number, layer in enumerate(cache.layers)
            }
            found = {
                number: LayerShape(keys.shape[1], keys.shape[2], values.shape[2])
                for number, (keys, values) in states.items()
            }
            if found != shapes:
                raise ModelError(_of_another_base(folder, f"keys and values {found.get(0)} in {len(found)} layers",
                                                  f"{shapes.get(0)} in {len(shapes)}"))  # fmt: skip
            return LoadedAdapter(num_virtual_tokens=config.num_virtual_tokens, states=states)
        if config.peft_type in EMBEDDED:
            embeddings_VE = model.get_prompt(1)[0].to(template.dtype)
            width = template.config.get_text_config().hidden_size
            if embeddings_VE.shape[1] != width:
                raise ModelError(_of_another_base(folder, f"embeddings of {embeddings_VE.shape[1]}", str(width)))
            return LoadedAdapter(num_virtual_tokens=embeddings_VE.shape[0], embeddings=embeddings_VE)
    return LoadedAdapter(model=model.get_base_model())


def is_full(folder: Path) -> bool:
    """Whether an expert has weights of its own for all of the model."""
    return not (folder / ADAPTER_CONFIG).is_file()


def load_paged(source: str, device: str, dtype: torch.dtype | None) -> PreTrainedModel:
    """Load a model that computes its attention over a paged store, as far as its code lets it be chosen."""
    model = load_model(source, device, dtype)
    model.set_attn_implementation(PAGED)
    return model


def load_to_round(source: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Load a model whose linear layers are rounded next, and whose other weights are to be `dtype`.

    Where they are stored in less, as they are stored: mapped from their file, they take no memory before they are read.
    """
    own = own_dtype(source)
    if own is dtype or torch.promote_types(own, dtype) is not dtype:
        return load_paged(source, device, dtype)
    model = load_paged(source, device, own)
    if any(buffer.dtype is own for buffer in model.buffers()):
        # Not stored but computed, as Gemma's scale of embeddings, in the precision that was asked for.
        return load_paged(source, device, dtype)
    return model


def _read_config(folder: Path) -> Any:
    try:
        return PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} is not an adapter's config ({error}); train it again") from error


def _places(states_1KLD: Tensor, num_virtual_tokens: int) -> Tensor:
    """Return `[virtual, K, D]`; a layer with a window shorter than the prefix was given its end alone."""
    states_LKD = states_1KLD[0].transpose(0, 1)
    absent = states_LKD.new_zeros(num_virtual_tokens - states_LKD.shape[0], *states_LKD.shape[1:])
    return torch.cat([absent, states_LKD])


def _of_another_base(folder: Path, found: str, expected: str) -> str:
    return (f"the adapter in {folder} was trained on another base: it has {found}, this base has {expected}; "
            "serve it with its own base, or train it on this one")  # fmt: skip
