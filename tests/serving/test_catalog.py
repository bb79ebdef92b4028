"""Which expert answers to a name, while the registry changes under a running server."""

import asyncio

import httpx
import pytest

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.errors import MissingFilesError, ModelError, NotTrainedError, UnknownModelError
from quintet.server.app import create_app
from quintet.serving.catalog import Catalog
from quintet.serving.live_project import LiveProject
from tests.served import MakeExpert, ScriptedEngine, Serve


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine([Token(40), Token(None, "stop")], pause=0.01)


def test_an_expert_trained_meanwhile_answers_without_a_restart(
    project: Project, make_expert: MakeExpert, serve: Serve, engine: ScriptedEngine
) -> None:
    with serve(create_app(project, engine)) as url:
        query = {"query": "Hello?"}
        assert httpx.post(f"{url}/api/hr", json=query).status_code == 404
        make_expert(project)
        assert httpx.post(f"{url}/api/hr", json=query).json()["expert"] == "hr@1"
        make_expert(project, version=2, seed=2)
        assert httpx.post(f"{url}/api/hr", json=query).json()["expert"] == "hr@2"
        assert httpx.post(f"{url}/api/infer/hr@1", json=query).json()["expert"] == "hr@1"


def test_opening_a_model_loads_nothing_and_warming_it_does(
    project: Project, make_expert: MakeExpert, engine: ScriptedEngine
) -> None:
    expert = make_expert(project)
    catalog = Catalog(LiveProject(project), engine)
    model = asyncio.run(catalog.open("hr"))
    assert engine.loads == []
    asyncio.run(catalog.warm("hr"))
    assert engine.loads == [model.adapter]
    assert engine.loads[0].digest == expert.digest


def test_the_translator_is_the_one_the_expert_was_trained_with(
    project: Project, make_expert: MakeExpert, engine: ScriptedEngine
) -> None:
    template = make_expert(project).folder / "chat_template.jinja"
    template.write_text("{{- messages[-1]['content'] -}}")
    model = asyncio.run(Catalog(LiveProject(project), engine).open("hr"))
    assert model.translator.tokenizer.chat_template == template.read_text()
    base = asyncio.run(Catalog(LiveProject(project), engine).open("base"))
    assert base.translator.tokenizer.chat_template != template.read_text()


def test_an_expert_of_another_base_is_refused(
    project: Project, make_expert: MakeExpert, engine: ScriptedEngine
) -> None:
    make_expert(project, base="0123456789abcdef")
    with pytest.raises(ModelError, match=r"trained on the base .*0123456789ab.* quintet train hr"):
        asyncio.run(Catalog(LiveProject(project), engine).open("hr"))


def test_the_path_of_a_missing_file_is_named(project: Project, make_expert: MakeExpert, engine: ScriptedEngine) -> None:
    gone = make_expert(project).folder / "adapter_model.safetensors"
    gone.unlink()
    with pytest.raises(MissingFilesError, match=str(gone)):
        asyncio.run(Catalog(LiveProject(project), engine).open("hr"))


def test_an_expert_that_is_loaded_outlives_its_files(
    project: Project, make_expert: MakeExpert, engine: ScriptedEngine
) -> None:
    expert = make_expert(project)

    async def open_before_and_after() -> None:
        catalog = Catalog(LiveProject(project), engine)
        await catalog.warm("hr")
        (expert.folder / "adapter_model.safetensors").unlink()
        assert (await catalog.open("hr")).expert_name == "hr@1"

    asyncio.run(open_before_and_after())


@pytest.mark.parametrize("name", ["legal", "hr@", "hr@2", "hr@x", "base@1", "", "../hr"])
def test_a_name_that_means_nothing_is_unknown(
    project: Project, make_expert: MakeExpert, engine: ScriptedEngine, name: str
) -> None:
    make_expert(project)
    with pytest.raises(UnknownModelError):
        Catalog(LiveProject(project), engine).find(name)


def test_a_department_without_an_expert_is_not_trained(project: Project, engine: ScriptedEngine) -> None:
    with pytest.raises(NotTrainedError, match="quintet train hr"):
        Catalog(LiveProject(project), engine).find("hr")
