"""The base model: where its files are, its tokenizer, its weights, its digest. Knows nothing of experts."""

import hashlib
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from quintet.errors import ModelError
from quintet.files import digest_files

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

NANO = "nano"
NANO_FOLDER = Path(__file__).parents[1] / "nano" / "weights"
_DIGESTING = Lock()


def locate(base_model: str, root: Path) -> str:
    """Return the folder or hub id that transformers loads: `nano`, a folder, relative to `root`, or a hub id."""
    if base_model == NANO:
        return str(NANO_FOLDER)
    folder = root / Path(base_model).expanduser()
    return str(folder.resolve()) if (folder / "config.json").is_file() else base_model


def load_tokenizer(source: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a base or of an expert; raise ModelError with the fix."""
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, source)  # type: ignore[no-any-return]


def load_model(
    source: str,
    device: str,
    dtype: "torch.dtype | None" = None,
    attention: str | None = None,
    quantization: "BitsAndBytesConfig | None" = None,
) -> "PreTrainedModel":
    """Load a causal LM in evaluation mode, from safetensors alone.

    Unless named, the dtype is float32 on a CPU and bfloat16 on a GPU, and the attention is transformers' choice.
    """
    from transformers import AutoModelForCausalLM

    dtype = dtype or default_dtype(device)
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    if quantization is not None:
        # Quantised weights are put where they belong while they are read, and cannot be moved later.
        options |= {"quantization_config": quantization, "device_map": {"": device}}
    model = _load(AutoModelForCausalLM, source, dtype=dtype, use_safetensors=True, **options)
    return (model if quantization else model.to(device)).eval()  # type: ignore[no-any-return]


def default_dtype(device: str) -> "torch.dtype":
    """Return in what a base is computed where nobody says."""
    import torch

    return torch.float32 if device == "cpu" else torch.bfloat16


def load_config(source: str) -> "PreTrainedConfig":
    """Load the config of a base or of a fully trained expert; raise ModelError with the fix."""
    from transformers import AutoConfig

    return _load(AutoConfig, source)  # type: ignore[no-any-return]


def own_dtype(source: str) -> "torch.dtype":
    """Return the dtype that the weights are kept in; float32 where the config does not say."""
    import torch

    found = load_config(source).dtype
    return found if isinstance(found, torch.dtype) else torch.float32


def context_length(source: str) -> int:
    """Return how many tokens the base can hold, from its config alone; raise ModelError when that does not say."""
    length = getattr(load_config(source).get_text_config(), "max_position_embeddings", None)
    if length is None:
        raise ModelError(f"the config of {source!r} has no max_position_embeddings, so its context is not known")
    return int(length)


def pick_device() -> str:
    """Return `cuda` when there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def base_digest(source: str) -> str:
    """Return what identifies a base: the digest of its folder's config, tokenizer and weights, or of its hub id.

    It is found once; who asks meanwhile, from another thread, waits.
    """
    with _DIGESTING:
        return _base_digest(source)


@cache
def _base_digest(source: str) -> str:
    folder = Path(source)
    if not folder.is_dir():
        return hashlib.sha256(source.encode()).hexdigest()
    kinds = {".safetensors", ".json", ".jinja", ".model", ".txt"}
    files = [file for file in folder.iterdir() if file.suffix in kinds]
    return digest_files(*sorted(files))


def _load(loader: Any, source: str, **options: Any) -> Any:
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        # Never the model's own code, and never a question about it on the terminal.
        return loader.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"{source!r} cannot be loaded ({first}); expected {NANO!r}, a Hugging Face id that can be reached, or a "
            "folder with config.json, tokenizer files and *.safetensors"
        ) from error
