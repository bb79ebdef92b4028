"""An expert's folder and the base → the model that answers. Knows transformers and PEFT; nothing of departments."""

import copy
import json
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftType
from peft.utils import load_peft_weights
from safetensors import SafetensorError
from transformers import PreTrainedModel

from quintet.errors import ModelError
from quintet.models.adapter_files import ADAPTER_CONFIG
from quintet.models.base_model import load_model


def load_expert_model(folder: Path, base: PreTrainedModel) -> Any:
    """Return the expert as a model in evaluation mode, on the base's device; raise ModelError when it cannot be used.

    An adapter of any kind shares the base's weights and leaves the base as it is; full weights are loaded beside it.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return load_model(str(folder), str(base.device), base.dtype)
    try:
        names = {name.removeprefix("base_model.model.") for name in load_peft_weights(str(folder), device="cpu")}
        saved = tuple(PeftConfig.from_pretrained(str(folder)).modules_to_save or ())
        # Of whole modules, PEFT makes the copy itself.
        view: Any = shared_view(
            base,
            own={name.replace(".base_layer.", ".") for name in names if not name.rpartition(".")[0].endswith(saved)},
        )
        with quietly():
            return PeftModel.from_pretrained(view, str(folder), torch_device=str(base.device)).eval()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} cannot be loaded: {error}") from error


def shared_view(base: PreTrainedModel, own: Collection[str] = ()) -> PreTrainedModel:
    """Return a model of the base's own tensors in modules of its own, so that adapters of all kinds never meet.

    Of the parameters that `own` names it has copies.
    """
    copied = {id(tensor) for name, tensor in base.named_parameters(remove_duplicate=False) if name in own}
    tensors = (*base.parameters(), *base.buffers())
    return copy.deepcopy(base, {id(tensor): tensor for tensor in tensors if id(tensor) not in copied})


def skeleton_of(base: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Return a model of the base's modules with no weights in them: what has a name, and of what shape.

    Its dtype is that in which the base is computed.
    """
    tensors = (*base.parameters(), *base.buffers())
    # Detached, or each would hold on to what it could pass gradients back to.
    return copy.deepcopy(base, {id(tensor): tensor.detach().to("meta", dtype) for tensor in tensors})


def takes_padding(model: Any) -> bool:
    """Whether prompts of unequal lengths may be padded into one batch.

    PEFT numbers the places of embedded virtual tokens and of what follows without regard to padding.
    """
    if not isinstance(model, PeftModel):
        return True
    kind = model.active_peft_config.peft_type
    return not model.active_peft_config.is_prompt_learning or kind == PeftType.PREFIX_TUNING


def settle_adapter_config(path: Path, base: str) -> None:
    """Make PEFT's config depend on what was trained alone: it lists modules in random order, and names our folder."""
    settings = json.loads(path.read_text("utf-8"))
    settings["base_model_name_or_path"] = base
    for key in ("target_modules", "feedforward_modules", "exclude_modules"):
        if isinstance(settings.get(key), list):
            settings[key].sort()
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# What PEFT warns of and is as it should be: it numbers places itself; AdaLoRA's ranks are found under other names;
# "ref", by which TRL names what DPO started from, is a part of the word "prefix"; an adapter of a tied head is the
# head's alone, and `merge` unties it.
KNOWN_WARNINGS = (
    "Position ids are not supported for parameter efficient tuning",
    "The following rank_pattern keys did not match any targeted module",
    "Model has `tie_word_embeddings=True` and a tied layer is part of the adapter",
    "Adapter name 'ref' should not be contained in the prefix",
)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep warnings that say nothing to a user from the user's eyes."""
    with warnings.catch_warnings():
        for message in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield
