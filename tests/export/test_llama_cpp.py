"""A GGUF file, read back by the format's own reader: what llama.cpp will find in it."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from quintet.chat import ChatTranslator
from quintet.errors import ExportError
from quintet.export.exporting import export
from quintet.export.formats import Dtype, Format
from quintet.export.llama_cpp import check_convertible, load_gguf, permute, write_gguf
from quintet.export.merged import merge
from quintet.models.base_model import NANO_FOLDER, load_model, load_tokenizer
from tests.export.conftest import Trained

SIZES: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(lora: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(*lora, Format.GGUF, to=tmp_path_factory.mktemp("gguf") / "out").folder


@pytest.fixture(scope="module")
def reader(exported: Path) -> GGUFReader:
    return GGUFReader(exported / "hr-v1-F16.gguf")


def field(reader: GGUFReader, key: str) -> Any:
    found = reader.get_field(key)
    assert found is not None, key
    return found.contents()


def unpermuted(data: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    return data.reshape(heads, data.shape[0] // heads // 2, 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


def test_the_folder_holds_the_file_its_card_and_the_mark(exported: Path) -> None:
    assert {file.name for file in exported.iterdir()} == {"hr-v1-F16.gguf", "README.md", "export.json"}
    assert "llama-server -m hr-v1-F16.gguf" in (exported / "README.md").read_text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.architecture", "llama"),
        ("general.name", "hr@1"),
        ("general.file_type", 1),
        ("llama.context_length", 256),
        ("llama.embedding_length", 32),
        ("llama.feed_forward_length", 64),
        ("llama.block_count", 2),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.rope.dimension_count", 8),
        ("llama.rope.freq_base", 10000.0),
        ("llama.attention.layer_norm_rms_epsilon", pytest.approx(1e-6)),
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", "gpt-2"),
        ("tokenizer.ggml.bos_token_id", 0),
        ("tokenizer.ggml.eos_token_id", 2),
        ("tokenizer.ggml.eot_token_id", 2),
        ("tokenizer.ggml.padding_token_id", 0),
        # The template writes none, so training saw none.
        ("tokenizer.ggml.add_bos_token", False),
    ],
)
def test_the_file_says_what_the_model_is(reader: GGUFReader, key: str, value: object) -> None:
    assert field(reader, key) == value


def test_tokens_merges_and_template_are_the_tokenizers_own_in_its_order(
    reader: GGUFReader, tokenizer: PreTrainedTokenizerFast
) -> None:
    size = len(tokenizer)
    assert field(reader, "tokenizer.ggml.tokens") == tokenizer.convert_ids_to_tokens(list(range(size)))
    assert field(reader, "tokenizer.ggml.token_type") == [3, 3, 3] + [1] * (size - 3)
    merges = field(reader, "tokenizer.ggml.merges")
    # Each merge makes a token, and the trainer numbered tokens in the order that it made them.
    made = [tokenizer.convert_tokens_to_ids(merge.replace(" ", "")) for merge in merges]
    assert made == sorted(made)
    assert len(made) == size - 256 - 3
    assert field(reader, "tokenizer.chat_template") == tokenizer.chat_template


def test_the_weights_are_the_merged_ones_once_rotary_pairs_are_put_back(lora: Trained, reader: GGUFReader) -> None:
    ours = {name: tensor.numpy() for name, tensor in merge(*lora).state_dict().items()}
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    names = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    pairs = {f"blk.{n}.{a}.weight": f"model.layers.{n}.{b}.weight" for n in (0, 1) for a, b in names.items()}
    pairs |= {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    # The embeddings are tied: there is no output of its own.
    assert theirs.keys() == pairs.keys()
    for name, own in pairs.items():
        data = theirs[name].data
        heads = 4 if "attn_q" in name else 2 if "attn_k" in name else None
        assert data.dtype == (np.float16 if data.ndim > 1 else np.float32)
        assert np.array_equal(unpermuted(data, heads) if heads else data, ours[own].astype(data.dtype)), name


def test_permuting_puts_next_to_each_other_what_is_turned_together() -> None:
    rows = np.arange(8)  # two heads of four: 0 turns with 2, 1 with 3
    assert permute(rows, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("dtype", list(Dtype))
def test_another_reader_finds_the_expert_as_it_is_served(lora: Trained, tmp_path: Path, dtype: Dtype) -> None:
    done = export(*lora, Format.GGUF, to=tmp_path / "out", dtype=dtype)
    assert done.proof is not None
    assert done.proof.same_answers == 1
    assert done.proof.exported.perplexity == pytest.approx(done.proof.served.perplexity, rel=0.01)


@pytest.mark.parametrize(
    "model",
    [
        LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, tie_word_embeddings=False)),
        Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    ],
    ids=["Llama with biases and an output of its own", "Qwen2"],
)
def test_other_shapes_come_back_the_same(model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                tensor.normal_()
    path = tmp_path / "model.gguf"
    write_gguf(model.eval(), ChatTranslator(tokenizer), "model", Dtype.FLOAT32, path)
    theirs = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    assert ("output.weight" in theirs) is not model.config.tie_word_embeddings
    bias = model.model.layers[0].self_attn.q_proj.bias.detach().numpy()
    # Qwen2's rotary pairs are half a head apart in llama.cpp too.
    is_llama = isinstance(model, LlamaForCausalLM)
    assert np.array_equal(theirs["blk.0.attn_q.bias"], permute(bias, 4) if is_llama else bias)
    if not is_llama:  # transformers reads no biases of a llama
        ids_BT = torch.arange(20)[None]
        with torch.inference_mode():
            assert torch.allclose(load_gguf(path, "cpu", torch.float32)(ids_BT).logits, model(ids_BT).logits, atol=1e-5)


def test_nano_is_written_with_its_own_splitting(tmp_path: Path) -> None:
    path = tmp_path / "nano.gguf"
    translator = ChatTranslator(load_tokenizer(str(NANO_FOLDER)))
    write_gguf(load_model(str(NANO_FOLDER), "cpu"), translator, "nano", Dtype.FLOAT16, path)
    read = GGUFReader(path)
    assert field(read, "tokenizer.ggml.pre") == "smollm"
    assert len(field(read, "tokenizer.ggml.tokens")) == 8192
    assert field(read, "tokenizer.ggml.merges")[:3] == ["Ġ t", "h e", "Ġ a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "for LlamaForCausalLM, Qwen2ForCausalLM, and this model is a GPT2LMHead",
        ),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "this model's are 'linear'"),
    ],
)
def test_a_model_that_cannot_be_written_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_convertible(LlamaConfig(**{"architectures": ["LlamaForCausalLM"], **changes}))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "gguf":
            raise ImportError(name)
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExportError, match=r"pip install 'quintet\[gguf\]'"):
        check_convertible(LlamaConfig(architectures=["LlamaForCausalLM"]))


def test_virtual_tokens_have_no_place_in_the_format(prefix: Trained, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--format adapter"):
        export(*prefix, Format.GGUF, to=tmp_path / "out")
