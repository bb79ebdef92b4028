"""An object store between two machines that share a database: a real S3 server, and a folder."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from quintet.config import Project
from quintet.errors import ConfigError, MissingFilesError, RegistryError, UnreachableError
from quintet.registry.artifacts import digest_contents, list_contents, open_store
from quintet.registry.experts import find_expert, list_experts, new_run, newest_expert, publish
from quintet.registry.releases import release, released_expert
from quintet.registry.verification import verify
from tests.registry.making import make_expert, make_project, stage


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a local S3 server."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patched.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("quintet-experts")
        yield "s3://quintet-experts"
    server.stop()


@pytest.fixture(params=["s3", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}" if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture
def machines(tmp_path: Path, store: str) -> tuple[Project, Project]:
    """Two project folders with one database and one store."""
    shared = {"database": f"sqlite:///{tmp_path}/shared.db", "artifacts": store}
    return make_project(tmp_path / "one", **shared), make_project(tmp_path / "other", **shared)


def test_an_expert_is_fetched_by_a_machine_that_does_not_have_it(machines: tuple[Project, Project]) -> None:
    here, there = machines
    made = make_expert(here)
    fetched = find_expert(there, "hr@1")
    assert fetched.folder == there.runs / "hr" / "1" / "expert"
    fetched.check_files()
    assert fetched.is_whole
    assert list_contents(fetched.folder) == list_contents(made.folder)
    assert [path.name for path in fetched.folder.parent.iterdir()] == ["expert"]
    assert newest_expert(there, "hr") == fetched


def test_listing_fetches_nothing(machines: tuple[Project, Project]) -> None:
    here, there = machines
    make_expert(here)
    release(here, "hr", 1)
    assert [expert.name for expert in list_experts(there, "hr")] == ["hr@1"]
    assert released_expert(there, "hr").name == "hr@1"
    assert verify(there, "hr") == []
    assert not there.runs.exists()


def test_any_machine_may_release_what_the_store_holds(machines: tuple[Project, Project]) -> None:
    here, there = machines
    make_expert(here)
    assert release(there, "hr", 1).versions == (1,)
    assert released_expert(here, "hr").name == "hr@1"


def test_the_description_is_put_there_last(tmp_path: Path) -> None:
    make_expert(make_project(tmp_path / "one", artifacts=str(tmp_path / "store")))
    written = sorted((tmp_path / "store").glob("*/*"), key=lambda path: path.stat().st_mtime_ns)
    assert len(written) == 5
    assert written[-1].name == "expert.json"


def test_what_is_damaged_in_the_store_is_not_taken(machines: tuple[Project, Project]) -> None:
    here, there = machines
    made = make_expert(here)
    opened = open_store(here)
    assert opened is not None
    artifact = digest_contents(list_contents(made.folder))
    opened._files.pipe_file(opened._place(artifact, "adapter_model.safetensors"), b"not what was put there")
    with pytest.raises(RegistryError, match=r"adapter_model.safetensors in .* is damaged: expected the SHA-256"):
        find_expert(there, "hr@1")
    assert list((there.runs / "hr" / "1").iterdir()) == []


def test_damaged_files_are_fetched_again_when_they_are_deleted(machines: tuple[Project, Project]) -> None:
    here, _ = machines
    expert = make_expert(here)
    (expert.folder / "adapter_model.safetensors").write_bytes(b"cut short")
    (damage,) = verify(here, "hr")
    assert damage.fix == f"delete {expert.folder}: it is fetched again when it is needed"
    shutil.rmtree(expert.folder)
    assert find_expert(here, "hr@1").is_whole


def test_an_expert_older_than_the_store_is_put_there_when_it_is_released(tmp_path: Path, store: str) -> None:
    database = f"sqlite:///{tmp_path}/shared.db"
    make_expert(make_project(tmp_path / "one", database=database))
    here = make_project(tmp_path / "one", database=database, artifacts=store)
    there = make_project(tmp_path / "other", database=database, artifacts=store)
    with pytest.raises(
        MissingFilesError, match=r"nor does .* hold it; on the machine that has it: quintet release hr 1"
    ):
        find_expert(there, "hr@1")
    release(here, "hr", 1)
    assert find_expert(there, "hr@1").is_whole


def test_an_expert_is_whole_though_its_store_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, where a folder is expected")
    broken = make_project(tmp_path / "one", artifacts=str(tmp_path / "file" / "store"))
    staged, expert = stage(new_run(broken, "hr"))
    with pytest.raises(UnreachableError, match=r"cannot write to .* hr@1 is whole in .*quintet experts list hr"):
        publish(staged, expert, broken)
    (tmp_path / "file").unlink()
    assert [expert.name for expert in list_experts(broken, "hr")] == ["hr@1"]


@pytest.mark.parametrize("url", ["nothing://ada:s3cret@host/experts", "s3x://bucket"])
def test_a_store_of_no_known_kind_is_refused(tmp_path: Path, url: str) -> None:
    project = make_project(tmp_path, artifacts=url)
    with pytest.raises(ConfigError, match=r"registry.artifacts: ") as caught:
        make_expert(project)
    assert "s3cret" not in str(caught.value)


def test_a_store_at_a_plain_path_is_relative_to_the_project(tmp_path: Path) -> None:
    project = make_project(tmp_path / "company", artifacts="store")
    made = make_expert(project)
    artifact = digest_contents(list_contents(made.folder))
    assert (tmp_path / "company" / "store" / artifact / "expert.json").is_file()


def test_a_file_by_its_name_is_replaced_and_is_seen_to_be_another(store: str, tmp_path: Path) -> None:
    opened = open_store(make_project(tmp_path / "company", artifacts=store))
    assert opened is not None
    assert opened.stamp("router") is None
    seen = []
    for text in ("one", "the other"):
        (tmp_path / "file").write_text(text)
        opened.put("router", tmp_path / "file")
        seen.append(opened.stamp("router"))
        assert opened.stamp("router") == seen[-1]
    assert seen[0] != seen[1]
    opened.get("router", tmp_path / "runs" / "fetched")
    assert [(file.name, file.read_text()) for file in (tmp_path / "runs").iterdir()] == [("fetched", "the other")]


@pytest.mark.parametrize(("url", "library", "extra"), [("gs://b", "gcsfs", "gcs"), ("abfs://b", "adlfs", "azure")])
def test_a_store_that_needs_a_library_says_what_to_install(
    url: str, library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"pip install 'quintet\[{extra}\]'"):
        open_store(make_project(tmp_path / "company", artifacts=f"{url}/quintet"))
