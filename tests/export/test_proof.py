"""An export that is not what is served is an error with both numbers, and leaves nothing behind."""

from pathlib import Path
from typing import Any

import pytest
import torch

from quintet.errors import ExportError
from quintet.export import exporting, merged, proof
from quintet.export.exporting import export
from quintet.export.formats import Dtype, Format
from quintet.export.proof import BOUNDS, Bound, Proof, ProvenAnswers
from tests.export.conftest import Trained


def worth(f1: float, perplexity: float) -> Proof:
    return Proof(100, 0.9, ProvenAnswers(0.8, 2.0), ProvenAnswers(f1, perplexity), Bound(f1=0.01, perplexity=0.01))


@pytest.mark.parametrize(
    ("f1", "perplexity", "holds"),
    [(0.8, 2.0, True), (0.791, 2.0, True), (0.789, 2.0, False), (0.811, 2.0, False), (0.8, 2.019, True),
     (0.8, 2.021, False), (0.8, 1.979, False), (0.8, float("nan"), False), (0.8, float("inf"), False)],
)  # fmt: skip
def test_the_bound_holds_on_both_sides(f1: float, perplexity: float, holds: bool) -> None:
    assert worth(f1, perplexity).holds is holds


def test_a_proof_is_told_with_both_numbers_and_the_bounds() -> None:
    assert str(worth(0.75, 2.5)) == (
        "on 100 held-out questions, 90% of the answers are the same; token F1 0.8000 as served, 0.7500 as exported "
        "(may differ by 0.01); perplexity 2.0000 and 2.5000 (may differ by 1%)"
    )


@pytest.mark.parametrize("form", [Format.MERGED, Format.GGUF])
def test_weights_that_went_wrong_in_the_merge_are_refused_and_removed(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    merge = merged.merge

    def wrong(*arguments: Any) -> Any:
        model = merge(*arguments)
        model.model.layers[1].mlp.down_proj.weight.data *= -1
        return model

    monkeypatch.setattr(exporting, "merge", wrong)
    with pytest.raises(ExportError, match=r"is not what is served: .* token F1 .* as served, .* as exported"):
        export(*lora, form, to=tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_files_that_went_wrong_on_the_disk_are_refused_and_an_older_export_stays(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    done = export(*lora, to=tmp_path / "out")
    before = {file.name: file.read_bytes() for file in done.folder.iterdir()}
    write = merged.write_merged

    def damaged(model: Any, translator: Any, dtype: torch.dtype, folder: Path) -> None:
        write(model, translator, dtype, folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.0.self_attn.o_proj.weight"].zero_()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(exporting, "write_merged", damaged)
    with pytest.raises(ExportError, match="is not what is served"):
        export(*lora, to=tmp_path / "out", force=True)
    assert {file.name: file.read_bytes() for file in done.folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [done.folder]


def test_rounding_that_changes_answers_is_told_to_be_the_cause(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOUNDS, torch.bfloat16, Bound(f1=0.0, perplexity=0.0))
    with pytest.raises(ExportError, match=r"rounding may be to blame: try --dtype float32"):
        export(*lora, to=tmp_path / "out", dtype=Dtype.BFLOAT16)


def test_an_expert_with_nothing_held_out_cannot_be_proven(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "held_out_examples", lambda project, expert: [])
    with pytest.raises(ExportError, match="no held-out questions"):
        export(*lora, to=tmp_path / "out")


def test_progress_ends_at_both_answers_to_every_question(lora: Trained, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export(*lora, to=tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 8), (8, 8)]
