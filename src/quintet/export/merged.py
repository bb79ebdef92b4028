"""An expert → one plain model, and its folder in transformers' format. Knows nothing of other formats."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from transformers import GenerationConfig, PreTrainedModel

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.errors import ExportError
from quintet.models.base_model import load_model, locate
from quintet.models.peft_model import load_expert_model, quietly
from quintet.registry.experts import Expert


def weights_source(project: Project, expert: Expert) -> str:
    """Return where the weights come from that the expert is made of: the base's place, or the expert's own."""
    return locate(project.config.base_model, project.root) if expert.is_adapter else str(expert.folder)


def check_mergeable(expert: Expert) -> None:
    """Raise ExportError for an adapter that is no change of weights."""
    if not expert.is_adapter:
        return
    config = PeftConfig.from_pretrained(str(expert.folder))
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise ExportError(
            f"{expert.name} was trained by {expert.trained!r}, which learns states in front of the text and changes no "
            f"weight, so there is nothing to merge; take: quintet export {expert.name} --format adapter"
        )


def merge(project: Project, expert: Expert) -> PreTrainedModel:
    """Return the expert as one plain model in float32 on the CPU; what has all its weights is that already.

    Over the base as it is, whatever it was trained over: that is how it is served.
    """
    model = load_model(weights_source(project, expert), "cpu", torch.float32)
    if not expert.is_adapter:
        return model
    tuned = load_expert_model(expert.folder, model)
    _untie(tuned.get_base_model())
    try:
        with quietly():
            merged: PreTrainedModel = tuned.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"{expert.name}, trained by {expert.trained!r}, cannot be merged ({error}); "
            f"take: quintet export {expert.name} --format adapter"
        ) from error
    return merged


def _untie(model: Any) -> None:
    """Give head and embeddings weights of their own where one of the two has an adapter, and they shared theirs."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    has_adapter = hasattr(head, "base_layer") or hasattr(embeddings, "base_layer")
    if has_adapter and head.weight is embeddings.weight:
        getattr(head, "base_layer", head).weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.get_text_config().tie_word_embeddings = False


def write_merged(model: Any, translator: ChatTranslator, dtype: torch.dtype, folder: Path) -> None:
    """Round the model to the dtype and write it, its tokenizer with the chat template, and what ends an answer."""
    model.to(dtype)
    check_finite(model, dtype)
    # What was measured: greedy, and nothing of what the base's own config would add, such as penalties.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=own.bos_token_id,
        eos_token_id=list(translator.end_ids),
        pad_token_id=translator.end_ids[0] if own.pad_token_id is None else own.pad_token_id,
    )
    model.save_pretrained(folder)
    translator.tokenizer.save_pretrained(folder)


def check_finite(model: Any, dtype: torch.dtype) -> None:
    """Raise ExportError when a weight was too large for the dtype."""
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ExportError(f"{name} is too large for {dtype}; pass --dtype bfloat16 or --dtype float32")
