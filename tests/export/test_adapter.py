"""PEFT's own format: the same bytes, and a base that other people can name."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from quintet.config import Config, Project
from quintet.errors import ExportError
from quintet.export.adapter import base_elsewhere
from quintet.export.exporting import export
from quintet.export.formats import Dtype, Format
from quintet.models.base_model import load_model
from quintet.models.peft_model import load_expert_model
from tests.export.conftest import Trained


@pytest.mark.parametrize("which", ["lora", "prefix"])
def test_an_adapter_loads_by_peft_alone_as_it_is_served(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path, which: str
) -> None:
    project, expert = request.getfixturevalue(which)
    done = export(project, expert, Format.ADAPTER, to=tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, done.folder).eval()
    served = load_expert_model(expert.folder, load_model(str(tiny_base), "cpu"))
    ids_BT = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.equal(loaded(ids_BT).logits, served(ids_BT).logits)
    assert (done.dtype, done.proof) == (None, None)


def test_the_folder_holds_weights_tokenizer_and_card_and_nothing_of_ours_but_the_mark(
    lora: Trained, tmp_path: Path
) -> None:
    folder = export(*lora, Format.ADAPTER, to=tmp_path / "out").folder
    assert {file.name for file in folder.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "export.json",
    }  # fmt: skip


def test_a_base_that_no_hub_has_is_told_by_name_without_its_place(lora: Trained, tmp_path: Path) -> None:
    folder = export(*lora, Format.ADAPTER, to=tmp_path / "out").folder
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named.startswith(f"{Path(lora[0].config.base_model).name}, a folder: name your copy")
    assert "/" not in named


@pytest.mark.parametrize(
    ("base", "named"),
    [("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
     ("nano", "nano, the folder nano/weights of the Python package quintet; README.md tells how to load it")],
)  # fmt: skip
def test_a_base_is_named_as_others_know_it(lora: Trained, tmp_path: Path, base: str, named: str) -> None:
    from dataclasses import replace

    config = Config.model_validate({"departments": {"hr": {"description": "HR", "data": "hr.jsonl"}}})
    assert base_elsewhere(Project(tmp_path, config), replace(lora[1], base_model=base)) == named


def test_all_weights_are_no_adapter(full: Trained, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"all weights of its own.*--format merged"):
        export(*full, Format.ADAPTER, to=tmp_path / "out")


def test_an_adapter_is_not_rounded(lora: Trained, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"copied as it is; --dtype goes with --format merged or gguf"):
        export(*lora, Format.ADAPTER, to=tmp_path / "out", dtype=Dtype.FLOAT16)
