"""The base model: where its files are, its tokenizer, its weights, its digest. Knows nothing of experts."""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintet.errors import ModelError
from quintet.registry.experts import digest_files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NANO = "nano"
NANO_FOLDER = Path(__file__).parent / "nano" / "weights"


def locate(base_model: str, root: Path) -> str:
    """Return the folder or hub id that transformers loads: `nano`, a folder (also below `root`), or a hub id."""
    if base_model == NANO:
        return str(NANO_FOLDER)
    for folder in (Path(base_model).expanduser(), root / base_model):
        if (folder / "config.json").is_file():
            return str(folder.resolve())
    return base_model


def load_tokenizer(source: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a base or of an expert; raise ModelError with the fix."""
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, source)  # type: ignore[no-any-return]


def load_model(
    source: str, device: str, dtype: "torch.dtype | None" = None, attention: str | None = None
) -> "PreTrainedModel":
    """Load a causal LM in evaluation mode, from safetensors alone.

    Unless named, the dtype is float32 on a CPU and bfloat16 on a GPU, and the attention is transformers' choice.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    options = {"attn_implementation": attention} if attention else {}
    model = _load(AutoModelForCausalLM, source, dtype=dtype, use_safetensors=True, **options)
    return model.to(device).eval()  # type: ignore[no-any-return]


def context_length(source: str) -> int:
    """Return how many tokens the base can hold, from its config alone."""
    from transformers import AutoConfig

    return int(_load(AutoConfig, source).max_position_embeddings)


def pick_device() -> str:
    """Return `cuda` when there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def base_digest(source: str) -> str:
    """Return what identifies a base: the digest of a folder's config, tokenizer and weights, or the hub id's."""
    folder = Path(source)
    if not folder.is_dir():
        return hashlib.sha256(source.encode()).hexdigest()
    names = {"config.json", "tokenizer.json", "chat_template.jinja"}
    files = [f for f in folder.iterdir() if f.name in names or f.suffix == ".safetensors"]
    return digest_files(*sorted(files))


def _load(loader: Any, source: str, **options: Any) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        return loader.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the base model {source!r} cannot be loaded ({first}); name {NANO!r}, a Hugging Face id "
            "or a folder with config.json, tokenizer and *.safetensors under 'base_model:'"
        ) from error
