from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quintet.config import Project
from quintet.errors import MissingFilesError, ModelError
from quintet.registry.experts import Expert, digest_files, list_experts, new_run, newest_expert, publish


def make_expert(project: Project, run: Path) -> Expert:
    staged = run / "expert.part"
    staged.mkdir()
    files = ("adapter_config.json", "adapter_model.safetensors")
    for name in (*files, "tokenizer.json"):
        (staged / name).write_text(name)
    expert = Expert(
        department="hr",
        version=int(run.name),
        method="lora",
        trained="lora",
        objective="sft",
        parent=None,
        base_model="nano",
        base_digest="b" * 64,
        data_digest="a" * 64,
        fingerprint="f" * 64,
        digest=digest_files(*(staged / name for name in files)),
        files=files,
        seconds=1.0,
        peak_bytes=2,
        examples=12,
        folder=run / "expert",
    )
    return publish(staged, expert)


def test_runs_are_numbered_one_above_the_highest(project: Project) -> None:
    runs = [new_run(project, "hr") for _ in range(3)]
    assert [run.name for run in runs] == ["1", "2", "3"]
    runs[0].rmdir()
    assert new_run(project, "hr").name == "4"


def test_runs_that_start_at_once_get_numbers_of_their_own(project: Project) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: new_run(project, "hr").name, range(12)))
    assert sorted(map(int, runs)) == list(range(1, 13))


def test_a_published_expert_is_read_back_as_it_was(project: Project) -> None:
    expert = make_expert(project, new_run(project, "hr"))
    assert newest_expert(project, "hr") == expert
    assert expert.name == "hr@1"


def test_the_newest_is_the_highest_number_not_the_last_in_spelling(project: Project) -> None:
    for _ in range(10):
        make_expert(project, new_run(project, "hr"))
    assert [e.version for e in list_experts(project, "hr")] == list(range(1, 11))


def test_a_run_without_an_expert_is_no_expert(project: Project) -> None:
    new_run(project, "hr")
    assert newest_expert(project, "hr") is None


def test_files_that_are_gone_are_named_with_the_fix(project: Project) -> None:
    expert = make_expert(project, new_run(project, "hr"))
    expert.check_files()
    (expert.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(MissingFilesError, match=r"hr@1.*adapter_model.safetensors does not exist.*quintet train hr"):
        expert.check_files()


def test_an_unreadable_description_names_its_file(project: Project) -> None:
    expert = make_expert(project, new_run(project, "hr"))
    (expert.folder / "expert.json").write_text("{")
    with pytest.raises(ModelError, match=r"expert.json cannot be read"):
        list_experts(project, "hr")


def test_a_digest_covers_names_and_contents(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("one")
    b.write_text("one")
    assert digest_files(a) != digest_files(b)
    before = digest_files(a)
    a.write_text("two")
    assert digest_files(a) != before


def test_the_size_is_that_of_the_weights(project: Project) -> None:
    expert = make_expert(project, new_run(project, "hr"))
    assert expert.megabytes == len("adapter_model.safetensors") / 1e6
