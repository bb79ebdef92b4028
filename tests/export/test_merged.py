"""One plain model: what each method merges to, what cannot be merged, and what another tool finds in the folder."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from quintet.chat import ChatTranslator
from quintet.errors import ExportError
from quintet.evaluation.answering import Continuation, greedy
from quintet.export import exporting
from quintet.export.exporting import export
from quintet.export.formats import Dtype
from quintet.export.merged import merge
from quintet.messages import Message
from quintet.models.base_model import load_model, load_tokenizer
from quintet.models.peft_model import load_expert_model
from tests.conftest import FACTS
from tests.export.conftest import METHODS, TrainBy, Trained

MERGED = [name for name in METHODS if name not in ("prefix", "prompt", "p_tuning")]


def as_served(trained: Trained, question: str, tokens: int) -> Continuation:
    project, expert = trained
    model = load_expert_model(expert.folder, load_model(project.config.base_model, "cpu"))
    translator = ChatTranslator(load_tokenizer(str(expert.folder)))
    (said,) = greedy(model, [translator.encode_prompt([Message("user", question)])], translator.end_ids, tokens)
    return said


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_expert_gives_the_logits_of_the_served_one(
    by: TrainBy, name: str, tmp_path: Path, tiny_base: Path
) -> None:
    project, expert = by(name)
    done = export(project, expert, to=tmp_path / "out", dtype=Dtype.FLOAT32)
    served = load_expert_model(expert.folder, load_model(str(tiny_base), "cpu"))
    plain = AutoModelForCausalLM.from_pretrained(done.folder, dtype=torch.float32).eval()
    ids_BT = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        assert torch.allclose(plain(ids_BT).logits, served(ids_BT).logits, atol=1e-3)
    assert done.proof is not None
    assert done.proof.same_answers == 1
    assert done.proof.exported.f1 == done.proof.served.f1
    assert done.proof.exported.perplexity == pytest.approx(done.proof.served.perplexity, rel=1e-4)
    assert getattr(plain.config, "quantization_config", None) is None


@pytest.mark.parametrize("name", ["prefix", *(pytest.param(n, marks=pytest.mark.slow) for n in ("prompt", "p_tuning"))])
def test_virtual_tokens_are_refused_with_what_to_take_instead(by: TrainBy, name: str, tmp_path: Path) -> None:
    project, expert = by(name)
    with pytest.raises(ExportError, match=r"nothing to merge; take: quintet export hr@1 --format adapter"):
        export(project, expert, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_folder_answers_by_transformers_alone_and_ends_where_it_should(lora: Trained, tmp_path: Path) -> None:
    folder = export(*lora, to=tmp_path / "out").folder
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    for question in FACTS:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        said = as_served(lora, question, 24)
        assert made[: len(said.ids)] == said.ids
        assert len(made) == len(said.ids) + said.ended


def test_the_dtype_is_the_bases_own_unless_one_is_named(lora: Trained, full: Trained, tmp_path: Path) -> None:
    assert export(*lora, to=tmp_path / "base").dtype is Dtype.FLOAT32
    # A fully trained expert is kept in bfloat16: no bits are made up.
    assert export(*full, to=tmp_path / "full").dtype is Dtype.BFLOAT16
    done = export(*lora, to=tmp_path / "named", dtype=Dtype.BFLOAT16)
    assert AutoModelForCausalLM.from_pretrained(done.folder, dtype="auto").dtype == torch.bfloat16


def test_a_fully_trained_expert_is_its_own_weights(full: Trained, tmp_path: Path) -> None:
    project, expert = full
    folder = export(project, expert, to=tmp_path / "out").folder
    ours = AutoModelForCausalLM.from_pretrained(expert.folder, dtype="auto").state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_weight_that_float16_cannot_hold_is_refused(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(*arguments: Any) -> Any:
        model: Any = merge(*arguments)
        model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e6
        return model

    monkeypatch.setattr(exporting, "merge", huge)
    with pytest.raises(ExportError, match=r"up_proj\.weight is too large for torch\.float16; pass --dtype bfloat16"):
        export(*lora, to=tmp_path / "out", dtype=Dtype.FLOAT16)


def test_the_card_tells_what_was_proven(lora: Trained, tmp_path: Path) -> None:
    done = export(*lora, to=tmp_path / "out")
    assert done.proof is not None
    card = (done.folder / "README.md").read_text()
    assert "library_name: transformers" in card
    assert f"| Token F1 | {done.proof.served.f1:.4f} | {done.proof.exported.f1:.4f} | 0.01 |" in card
    # The base is a folder of this machine's, which is nobody else's business.
    assert "base_model" not in card
    assert lora[0].config.base_model not in card


def test_the_lines_of_the_card_run_in_the_folder(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(*lora, to=tmp_path / "out").folder
    question = next(iter(FACTS))
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    exec(code.replace("Your question", question), {})
    said = load_tokenizer(str(folder)).decode(as_served(lora, question, 128).ids, skip_special_tokens=True)
    assert capsys.readouterr().out == f"{said}\n"


def test_an_export_generates_as_was_measured_whatever_its_bases_config_would_add(
    lora: Trained, tmp_path: Path, tiny_base: Path
) -> None:
    project, expert = lora
    config = tiny_base / "generation_config.json"
    before = config.read_text() if config.exists() else None
    GenerationConfig(repetition_penalty=1.9, do_sample=True, temperature=1.5).save_pretrained(tiny_base)
    try:
        done = export(project, expert, to=tmp_path / "out", dtype=Dtype.FLOAT32)
    finally:
        config.unlink() if before is None else config.write_text(before)
    plain = AutoModelForCausalLM.from_pretrained(done.folder, dtype=torch.float32).eval()
    assert plain.generation_config.repetition_penalty in (None, 1.0)
    ids = ChatTranslator(load_tokenizer(str(done.folder))).encode_prompt([Message("user", "When is pay day?")])
    (row,) = plain.generate(torch.tensor([ids]), max_new_tokens=12).tolist()
    said = as_served(lora, "When is pay day?", 12)
    assert row[len(ids) :][: len(said.ids)] == said.ids
