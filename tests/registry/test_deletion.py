"""Deleting experts, and verifying those that are left."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.errors import RegistryError, UnknownModelError
from quintet.registry.audit import read_acts
from quintet.registry.deletion import delete_expert
from quintet.registry.experts import find_expert, list_experts, new_run
from quintet.registry.releases import release
from quintet.registry.verification import verify
from tests.registry.making import make_expert

Another = Callable[[Project], Project]


def files_of(run: Path) -> list[str]:
    return [path.relative_to(run).as_posix() for path in run.rglob("*")]


def test_a_deleted_expert_is_gone_with_its_files(project: Project) -> None:
    make_expert(project)
    run = delete_expert(project, "hr@1", reason="wrong data", by="ada@lab")
    assert list_experts(project, "hr") == []
    assert files_of(run) == ["deleted.json"]
    with pytest.raises(UnknownModelError):
        find_expert(project, "hr@1")
    last = read_acts(project, "hr")[-1]
    assert (last.act, last.version, last.reason, last.who) == ("delete", 1, "wrong data", "ada@lab")


def test_a_released_expert_is_not_deleted(project: Project) -> None:
    make_expert(project)
    make_expert(project)
    release(project, "hr", 1)
    release(project, "hr", 2, share=10)
    for name in ("hr@1", "hr@2"):
        with pytest.raises(RegistryError, match=rf"{name} answers for hr now; .* quintet rollback hr"):
            delete_expert(project, name)
    assert len(list_experts(project, "hr")) == 2


def test_the_number_of_a_deleted_expert_is_never_given_out_again(project: Project, another_registry: Another) -> None:
    make_expert(project)
    delete_expert(project, "hr@1")
    assert new_run(project, "hr").name == "2"
    (project.runs / "hr" / "2").rmdir()
    assert new_run(another_registry(project), "hr").name == "2"


def test_what_was_half_deleted_stays_deleted_and_can_be_deleted_to_the_end(
    project: Project, monkeypatch: pytest.MonkeyPatch, another_registry: Another
) -> None:
    make_expert(project)
    with monkeypatch.context() as patched:
        patched.setattr("quintet.registry.deletion.shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            delete_expert(project, "hr@1")
    assert list_experts(project, "hr") == []
    assert [damage.fix for damage in verify(project, "hr")] == ["quintet experts delete hr@1"]
    assert list_experts(another_registry(project), "hr") == []
    delete_expert(project, "hr@1")
    assert verify(project, "hr") == []


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_one_that_there_never_was_cannot_be_deleted(project: Project) -> None:
    with pytest.raises(UnknownModelError):
        delete_expert(project, "hr@1")


def test_whole_files_have_no_damage_even_when_the_model_card_was_rewritten(project: Project) -> None:
    expert = make_expert(project)
    (expert.folder / "README.md").write_text("Evaluated")
    assert verify(project, "hr") == []


def test_damage_is_told_by_file_with_its_fix(project: Project) -> None:
    expert = make_expert(project)
    make_expert(project)
    weights, template = expert.folder / "adapter_model.safetensors", expert.folder / "chat_template.jinja"
    weights.write_bytes(b"cut short")
    template.unlink()
    damages = {damage.path: damage for damage in verify(project, "hr")}
    assert damages.keys() == {str(weights), str(template)}
    assert damages[str(template)].found == "is gone"
    assert "expected" in damages[str(weights)].found
    assert "quintet train hr --force" in damages[str(weights)].fix


def test_a_folder_that_cannot_be_registered_is_told_of(project: Project) -> None:
    run = new_run(project, "hr")
    (run / "expert").mkdir()
    (run / "expert" / "expert.json").write_text("{")
    (damage,) = verify(project, "hr")
    assert str(run / "expert" / "expert.json") in damage.found
