import hashlib
import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from quintet.config import Project
from quintet.errors import MissingFilesError, ModelError, RegistryError, UnknownModelError, UnreachableError
from quintet.files import digest_files
from quintet.registry.audit import current_user, read_acts
from quintet.registry.database import writing
from quintet.registry.experts import (
    describe_expert,
    find_expert,
    list_experts,
    new_run,
    newest_expert,
    publish,
    record_metrics,
)
from tests.registry.conftest import Databases
from tests.registry.making import make_expert, make_project, stage

Another = Callable[[Project], Project]


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
    expert = make_expert(project)
    assert newest_expert(project, "hr") == expert
    assert expert.name == "hr@1"


def test_the_newest_is_the_highest_number_not_the_last_in_spelling(project: Project) -> None:
    for _ in range(10):
        make_expert(project)
    assert [e.version for e in list_experts(project, "hr")] == list(range(1, 11))


def test_a_run_without_an_expert_is_no_expert(project: Project) -> None:
    new_run(project, "hr")
    assert newest_expert(project, "hr") is None


def test_files_that_are_gone_are_named_with_the_fix(project: Project) -> None:
    expert = make_expert(project)
    expert.check_files()
    (expert.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(MissingFilesError, match=r"hr@1.*adapter_model.safetensors does not exist.*quintet train hr"):
        expert.check_files()


def test_an_unreadable_description_names_its_file(project: Project, another_registry: Another) -> None:
    expert = make_expert(project)
    (expert.folder / "expert.json").write_text("{")
    with pytest.raises(ModelError, match=r"expert.json cannot be read"):
        expert.check_files()
    with pytest.raises(ModelError, match=r"expert.json cannot be read"):
        list_experts(another_registry(project), "hr")


def test_folders_that_a_new_registry_does_not_know_are_adopted_as_they_are(
    project: Project, another_registry: Another
) -> None:
    experts = [make_expert(project), make_expert(project)]
    project = another_registry(project)
    assert list_experts(project, "hr") == experts
    assert [expert.created_at for expert in list_experts(project, "hr")] == [e.created_at for e in experts]
    assert [act.act for act in read_acts(project, "hr")] == ["adopt", "adopt"]
    assert new_run(project, "hr").name == "3"


def test_an_expert_of_an_earlier_version_of_quintet_is_adopted(project: Project, another_registry: Another) -> None:
    expert = make_expert(project)
    file = expert.folder / "expert.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "created_at"}))
    (adopted,) = list_experts(another_registry(project), "hr")
    assert adopted == expert
    assert adopted.created_at is not None


def test_a_run_that_was_copied_under_another_number_is_refused(project: Project) -> None:
    run = make_expert(project).folder.parent
    shutil.copytree(run, run.with_name("7"))
    with pytest.raises(ModelError, match=r"7/expert/expert.json describes hr@1, found where hr@7 belongs; move .*/7"):
        list_experts(project, "hr")


def test_a_version_is_published_once(project: Project) -> None:
    run = make_expert(project).folder.parent
    with pytest.raises(RegistryError, match=r"found hr@1 in .*expert.json; .*quintet train hr --force"):
        publish(*stage(run, "other weights"), project)
    assert list_experts(project, "hr")[0].is_whole


def test_another_machines_expert_of_the_same_name_is_not_taken_for_it(tmp_path: Path, databases: Databases) -> None:
    alone = make_project(tmp_path / "one", database=databases())
    make_expert(alone, weights="of its own")
    shared = make_project(tmp_path / "other", database=f"sqlite:///{tmp_path}/shared.db")
    make_expert(shared)
    both = make_project(tmp_path / "one", database=f"sqlite:///{tmp_path}/shared.db")
    with pytest.raises(ModelError, match=r"one/runs/hr/1/expert holds hr@1 .* it was made elsewhere; move .*hr/1 away"):
        find_expert(both, "hr@1").check_files()
    assert new_run(both, "hr").name == "2"


def test_what_made_an_expert_is_kept_with_it(project: Project) -> None:
    expert = make_expert(project)
    known = describe_expert(project, "hr@1")
    assert known["settings"] == {"training": {"epochs": 3, "lora": {"rank": 8}}}
    template = (expert.folder / "chat_template.jinja").read_bytes()
    assert known["template_digest"] == hashlib.sha256(template).hexdigest()
    assert known["peak_bytes"] == 80_000_000_000
    assert (known["metrics"], known["parent"]) == ({}, None)


def test_metrics_are_kept_with_the_expert(project: Project) -> None:
    make_expert(project)
    record_metrics(project, "hr@1", {"f1": 0.75})
    assert describe_expert(project, "hr@1")["metrics"] == {"f1": 0.75}


def test_a_version_that_there_is_not_is_unknown(project: Project) -> None:
    make_expert(project)
    for name in ("hr@", "hr@2", "hr@x", "hr@01", "hr@-1", "hr@99999999999999999999", "legal@1"):
        message = f"no model named {name!r}; there are: hr, finance, base"
        with pytest.raises(UnknownModelError, match=re.escape(message)):
            find_expert(project, name)


def test_the_audit_says_who_and_cannot_be_changed(project: Project) -> None:
    make_expert(project)
    (act,) = read_acts(project, "hr")
    assert (act.who, act.act, act.version) == (current_user(), "publish", 1)
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(UnreachableError, match="the audit only grows"), writing(project) as session:
            session.execute(text(statement))
    assert read_acts(project, "hr") == [act]


def test_a_digest_covers_names_and_contents(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("one")
    b.write_text("one")
    assert digest_files(a) != digest_files(b)
    before = digest_files(a)
    a.write_text("two")
    assert digest_files(a) != before


def test_the_size_is_that_of_the_weights(project: Project) -> None:
    expert = make_expert(project)
    assert expert.megabytes == len("adapter_model.safetensors") / 1e6
