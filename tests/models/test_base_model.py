import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quintet.errors import ModelError
from quintet.models.base_model import NANO_FOLDER, base_digest, context_length, load_model, load_tokenizer, locate


def copy(base: Path, folder: Path) -> Path:
    return Path(shutil.copytree(base, folder / "base"))


def test_nano_is_the_folder_in_the_package(tmp_path: Path) -> None:
    assert locate("nano", tmp_path) == str(NANO_FOLDER)


def test_a_folder_is_found_from_the_project_wherever_one_stands(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, project = tmp_path / "here", tmp_path / "project"
    copy(tiny_base, here)
    wanted = copy(tiny_base, project)
    monkeypatch.chdir(here)
    assert locate("base", project) == str(wanted)
    assert locate(str(wanted), here) == str(wanted)


def test_what_is_no_folder_is_a_hub_id(tmp_path: Path) -> None:
    assert locate("TinyLlama/TinyLlama-1.1B-Chat-v1.0", tmp_path) == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"


def test_a_base_loads_in_float32_on_a_cpu_and_ready_to_answer(tiny_base: Path) -> None:
    model = load_model(str(tiny_base), "cpu")
    assert model.dtype == torch.float32
    assert not model.training


def test_the_context_comes_from_the_config(tiny_base: Path) -> None:
    assert context_length(str(tiny_base)) == 256


def test_a_changed_template_is_another_base(tiny_base: Path, tmp_path: Path) -> None:
    changed = copy(tiny_base, tmp_path)
    (changed / "chat_template.jinja").write_text("{{ messages }}")
    assert base_digest(str(changed)) != base_digest(str(tiny_base))


def test_weights_that_are_no_safetensors_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    broken = copy(tiny_base, tmp_path)
    (broken / "model.safetensors").unlink()
    torch.save({}, broken / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(broken), "cpu")


def test_cut_off_weights_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    broken = copy(tiny_base, tmp_path)
    (broken / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(broken), "cpu")


def test_a_models_own_code_is_never_run(tiny_base: Path, tmp_path: Path) -> None:
    foreign = copy(tiny_base, tmp_path)
    config = json.loads((foreign / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        load_model(str(foreign), "cpu")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_a_tokenizer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    broken = copy(tiny_base, tmp_path)
    for file in broken.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tokenizer(str(broken))


@pytest.mark.parametrize("first", ["quintet", "huggingface_hub.constants"])
def test_the_libraries_are_told_to_report_nothing_whoever_is_imported_first(first: str) -> None:
    code = f"import {first}, quintet, huggingface_hub.constants as c; assert c.HF_HUB_DISABLE_TELEMETRY"
    subprocess.run([sys.executable, "-c", code], check=True, env=_but_for("HF_HUB_DISABLE_TELEMETRY"))


def test_who_lets_the_libraries_report_is_heard() -> None:
    code = "import quintet, huggingface_hub.constants as c; assert not c.HF_HUB_DISABLE_TELEMETRY"
    env = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def _but_for(variable: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != variable}
