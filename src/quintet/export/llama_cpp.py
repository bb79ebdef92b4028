"""A plain model → one GGUF file, as llama.cpp and what is built on it read. Knows nothing of experts' methods.

Written from the format's own description (ggml's docs/gguf.md) by the `gguf` package, which is an extra.
"""

from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from quintet.chat import ChatTranslator
from quintet.errors import ExportError
from quintet.export.formats import Dtype
from quintet.export.llama_cpp_vocabulary import read_vocabulary
from quintet.messages import Message
from quintet.registry.experts import Expert

if TYPE_CHECKING:
    from gguf import GGUFWriter

ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
"""transformers' name → llama.cpp's."""
ENCODINGS = {Dtype.FLOAT32: "F32", Dtype.FLOAT16: "F16", Dtype.BFLOAT16: "BF16"}
Array = npt.NDArray[Any]


def check_convertible(config: Any) -> None:
    """Raise ExportError when the package is missing, or for a model that this cannot write."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ExportError(
            "the gguf package writes this format, and is not installed; run: pip install 'quintet[gguf]'"
        ) from None
    found = next(iter(config.architectures or ()), "none")
    if found not in ARCHITECTURES:
        raise ExportError(
            f"GGUF is written for {', '.join(ARCHITECTURES)}, and this model is a {found}; take --format merged, "
            "and convert that by llama.cpp's own convert_hf_to_gguf.py"
        )
    rope = config.rope_parameters.get("rope_type", "default")
    if rope != "default":
        raise ExportError(
            f"GGUF is written for plain rotary positions, and this model's are {rope!r}; take --format merged, "
            "and convert that by llama.cpp's own convert_hf_to_gguf.py"
        )


def file_name(expert: Expert, dtype: Dtype) -> str:
    """Return what the file is called, by GGUF's naming convention: name, version, encoding."""
    return f"{expert.department}-v{expert.version}-{ENCODINGS[dtype]}.gguf"


def write_gguf(model: Any, translator: ChatTranslator, name: str, dtype: Dtype, path: Path) -> None:
    """Write the model, which is in float32, its vocabulary and its chat template; matrices are in the dtype."""
    import gguf

    writer = gguf.GGUFWriter(path, ARCHITECTURES[type(model).__name__])
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if dtype is Dtype.FLOAT32 else 'MOSTLY'}_{ENCODINGS[dtype]}"])
    head = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    writer.add_vocab_size(model.config.vocab_size)
    writer.add_context_length(model.config.max_position_embeddings)
    writer.add_embedding_length(model.config.hidden_size)
    writer.add_block_count(model.config.num_hidden_layers)
    writer.add_feed_forward_length(model.config.intermediate_size)
    writer.add_head_count(model.config.num_attention_heads)
    writer.add_head_count_kv(model.config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(model.config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    _add_vocabulary(writer, translator, model.config.vocab_size)
    for tensor, data in tensors(model):
        # Vectors are few, and llama.cpp wants them in float32.
        kind = gguf.GGMLQuantizationType[ENCODINGS[dtype] if data.ndim > 1 else "F32"]
        if kind == gguf.GGMLQuantizationType.F16 and np.abs(data).max() > np.finfo(np.float16).max:
            raise ExportError(f"{tensor} is too large for float16; pass --dtype bfloat16 or --dtype float32")
        writer.add_tensor(tensor, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load_gguf(path: Path, device: str, dtype: torch.dtype) -> Any:
    """Load the file by transformers' own reader of GGUF, which knows nothing of this writer."""
    from transformers import AutoModelForCausalLM

    # It shows a bar of its own on standard error, whatever transformers is told.
    with redirect_stderr(StringIO()):
        model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    return model.to(device).eval()


def tensors(model: Any) -> Iterator[tuple[str, Array]]:
    """Yield llama.cpp's name of each weight, and the weight in float32, laid out as llama.cpp wants it."""
    import gguf

    config, name = model.config, type(model).__name__
    kind = next(kind for kind, known in gguf.MODEL_ARCH_NAMES.items() if known == ARCHITECTURES[name])
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp takes the embeddings where there is none
        known = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise ExportError(f"GGUF has no name for the weight {key} of a {name}; take --format merged")
        data = tensor.detach().to("cpu", torch.float32).numpy()
        if ARCHITECTURES[name] == "llama":
            data = _permuted(key, data, config)
        yield known, np.ascontiguousarray(data)


def permute(data: Array, heads: int) -> Array:
    """Put next to each other what rotary positions turn together; transformers keeps them half a head apart."""
    return data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


def _permuted(key: str, data: Array, config: Any) -> Array:
    if ".q_proj." in key:
        return permute(data, config.num_attention_heads)
    return permute(data, config.num_key_value_heads) if ".k_proj." in key else data


def _add_vocabulary(writer: "GGUFWriter", translator: ChatTranslator, size: int) -> None:
    tokenizer: Any = translator.tokenizer
    vocabulary = read_vocabulary(tokenizer, size)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.has_space_prefix)
    else:
        writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_eot_token_id(translator.end_ids[0])
    for add, id_ in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if id_ is not None:
            add(id_)
    first = translator.encode_prompt([Message("user", "Hi")])[0]
    # llama.cpp puts it before what the template writes, unless it stands there: a prompt is to be that of training.
    writer.add_add_bos_token(first == tokenizer.bos_token_id)
    writer.add_add_eos_token(False)
    opens = vocabulary.opens_with_space and first not in tokenizer.all_special_ids
    writer.add_chat_template(("{{- ' ' -}}" if opens else "") + tokenizer.chat_template)
