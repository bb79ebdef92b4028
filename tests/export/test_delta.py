"""A full expert's delta as a version of its department: what it is, what is refused, and what an error leaves."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from quintet.config import Project
from quintet.errors import ExportError, MissingFilesError, ModelError, UnknownModelError
from quintet.evaluation.compare import evaluate, held_out_examples
from quintet.export.delta import make_delta
from quintet.export.exporting import export
from quintet.export.formats import Dtype
from quintet.models.base_model import load_model
from quintet.models.peft_model import load_expert_model
from quintet.registry.deletion import delete_expert
from quintet.registry.experts import Expert, find_expert, list_experts
from quintet.training.preparation import plan_run
from quintet.training.run import find_trained
from tests.export.conftest import Trained

RANK = 4


@pytest.fixture
def copied(full: Trained, tmp_path: Path) -> Trained:
    """A copy of the project with the full expert, to change."""
    shutil.copytree(full[0].root, tmp_path / "company")
    project = Project.load(tmp_path / "company")
    return project, find_expert(project, "hr@1")


def test_a_delta_is_a_version_of_its_own_with_the_full_experts_questions(copied: Trained) -> None:
    project, full = copied
    delta, fit = make_delta(project, full, RANK)
    assert (delta.name, delta.parent, delta.method, delta.trained) == ("hr@2", "hr@1", "delta", "lora")
    assert (delta.objective, delta.data_digest, delta.examples) == (full.objective, full.data_digest, full.examples)
    assert delta.is_adapter
    assert delta.is_whole
    assert find_expert(project, "hr") == delta
    assert delta.held_out.read_bytes() == full.held_out.read_bytes()
    assert held_out_examples(project, delta) == held_out_examples(project, full)
    assert 0 < fit.worst <= fit.kept < 1
    assert 0 < fit.not_held["embeddings"] < 1


def test_a_delta_is_evaluated_as_any_version_is(copied: Trained) -> None:
    project, full = copied
    delta, _ = make_delta(project, full, RANK)
    evaluation = evaluate(project, delta, live=full)
    assert evaluation.names == {"base": "base", "expert": "hr@2", "live": "hr@1"}
    assert len(evaluation.items) == 4


def test_the_card_and_the_settings_tell_what_it_came_from(copied: Trained) -> None:
    project, full = copied
    delta, fit = make_delta(project, full, RANK)
    settings = yaml.safe_load((delta.folder.parent / "config.yaml").read_text())
    assert settings["training"] == {
        "rank": RANK, "layers": fit.layers, "kept": fit.kept, "worst": fit.worst, "worst_layer": fit.worst_layer,
        "not_held": dict(fit.not_held),
    }  # fmt: skip
    card = (delta.folder / "README.md").read_text()
    assert "| Method | delta |" in card
    assert "| Started from | hr@1 |" in card


def test_a_delta_is_kept_in_the_full_experts_dtype_and_names_the_base(copied: Trained) -> None:
    delta, _ = make_delta(*copied, RANK)
    config = json.loads((delta.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == copied[0].config.base_model
    assert config["target_modules"] == sorted(config["target_modules"])
    # bfloat16: two bytes a number, on a base of 2 layers, 32 wide, of 4 heads of which 2 have keys, and a tied head.
    numbers = RANK * (2 * (2 * 64 + 2 * 48 + 3 * 96) + 32 + vocabulary(copied[0]))
    assert delta.megabytes * 1e6 == pytest.approx(2 * numbers, abs=4000)


def vocabulary(project: Project) -> int:
    return int(json.loads((Path(project.config.base_model) / "config.json").read_text())["vocab_size"])


def test_the_same_rank_again_is_the_version_that_is_there(copied: Trained) -> None:
    project, full = copied
    first = make_delta(project, full, RANK)
    assert make_delta(project, full, RANK) == first
    assert make_delta(project, full, RANK + 1)[0].name == "hr@3"
    assert len(list_experts(project, "hr")) == 3


def test_training_still_takes_the_full_expert_for_what_was_trained(copied: Trained) -> None:
    project, full = copied
    make_delta(project, full, RANK)
    assert find_trained(project, plan_run(project, "hr")) == full


def test_a_delta_with_a_tied_head_is_merged_as_it_is_served(copied: Trained, tmp_path: Path) -> None:
    project, full = copied
    delta, _ = make_delta(project, full, RANK)
    folder = export(project, delta, to=tmp_path / "out", dtype=Dtype.FLOAT32).folder
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    base = load_model(project.config.base_model, "cpu")
    ids_BT = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        expected = load_expert_model(delta.folder, base)(ids_BT).logits
        assert torch.allclose(plain(ids_BT).logits, expected, atol=1e-3)
    names = ("model.embed_tokens.weight", "lm_head.weight")
    embeddings, head = (plain.state_dict()[name] for name in names)
    assert torch.equal(embeddings, base.state_dict()[names[0]])
    assert not torch.equal(embeddings, head)


def test_an_adapter_is_refused_with_the_full_expert_to_take(copied: Trained, lora: Trained) -> None:
    project, full = copied
    delta, _ = make_delta(project, full, RANK)
    with pytest.raises(ExportError, match=r"hr@2 .* is an adapter.*; take: quintet export hr@1 --as-delta 8"):
        make_delta(project, delta, 8)
    with pytest.raises(ExportError, match=r"hr@1 .* is an adapter.*; serve it as it is"):
        make_delta(*lora, 8)


def test_a_rank_that_wins_nothing_is_refused(copied: Trained) -> None:
    with pytest.raises(ExportError, match="nothing is won; take a rank of at most"):
        make_delta(*copied, 32)
    nothing_is_left(copied[0])


def nothing_is_left(project: Project) -> None:
    assert [folder.name for folder in (project.runs / "hr").iterdir()] == ["1"]


def test_an_expert_that_is_deleted_meanwhile_leaves_no_delta(copied: Trained) -> None:
    project, full = copied

    def delete(done: int, total: int) -> None:
        if done == total:
            delete_expert(project, "hr@1")

    with pytest.raises(UnknownModelError, match="no model named 'hr@1'"):
        make_delta(project, full, RANK, delete)
    nothing_is_left(project)


def lose_questions(full: Expert) -> Expert:
    full.held_out.unlink()
    return full


def of_another_base(full: Expert) -> Expert:
    return replace(full, base_digest="0" * 64)


@pytest.mark.parametrize(
    ("spoil", "error", "problem"),
    [
        (lose_questions, MissingFilesError, r"held_out\.jsonl does not exist; its run lies on another machine"),
        (of_another_base, ModelError, "was trained on the base"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    copied: Trained, spoil: Callable[[Expert], Expert], error: type[ModelError], problem: str
) -> None:
    project, full = copied
    with pytest.raises(error, match=problem):
        make_delta(project, spoil(full), RANK)
    nothing_is_left(project)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can have more than a million bytes, as on a disk with that much left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_it_with_a_word_and_leaves_nothing(copied: Trained, request: pytest.FixtureRequest) -> None:
    project, full = copied
    with full.held_out.open("a") as stream:
        stream.write("\n" * 1_000_001)
    request.getfixturevalue("small_disk")
    with pytest.raises(ExportError, match=r"hr/2 cannot be written: .*; free some space"):
        make_delta(project, full, RANK)
    nothing_is_left(project)
