"""The server answers from the release, while that changes under it."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Token
from quintet.engine.runner.model_runner import ModelRunner
from quintet.registry.releases import live, pick, release
from quintet.server.app import create_app
from quintet.serving.catalog import Catalog
from quintet.serving.live_project import LiveProject
from tests.served import MakeExpert, ScriptedEngine, Serve
from tests.server.test_serving import with_serving

QUERY = {"query": "Hello?"}
ROLLBACK = "import sys; from quintet.cli import main; sys.argv[:1] = ['quintet', 'rollback', 'hr', '-p']; main()"


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine([Token(40), Token(None, "stop")])


@pytest.fixture
def canary(project: Project, make_expert: MakeExpert) -> Project:
    """Half of the conversations are answered by hr@1, half by hr@2."""
    make_expert(project)
    make_expert(project, version=2, seed=2, released=False)
    release(project, "hr", 2, share=50)
    return project


def expert_for(url: str, question: str, path: str = "/api/hr") -> str:
    answer: str = httpx.post(f"{url}{path}", json={"query": question}).json()["expert"]
    return answer


def test_an_expert_that_is_not_released_answers_only_by_its_name(
    project: Project, make_expert: MakeExpert, serve: Serve, engine: ScriptedEngine
) -> None:
    make_expert(project, released=False)
    with serve(create_app(project, engine)) as url:
        refused = httpx.post(f"{url}/api/hr", json=QUERY)
        named = httpx.post(f"{url}/api/infer/hr@1", json=QUERY)
        listed = httpx.get(f"{url}/api/models").json()["models"][0]
        openai = httpx.get(f"{url}/v1/models").json()["data"]
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "model_not_released"
    assert "quintet release hr 1" in refused.json()["error"]["message"]
    assert named.json()["expert"] == "hr@1"
    assert (listed["status"], listed["version"], listed["release"]) == ("not released", None, [])
    assert "quintet release hr 1" in listed["problem"]
    assert [model["id"] for model in openai] == ["base"]


def test_a_newer_expert_waits_for_its_release(
    project: Project, make_expert: MakeExpert, serve: Serve, engine: ScriptedEngine
) -> None:
    make_expert(project)
    make_expert(project, version=2, seed=2, released=False)
    with serve(create_app(project, engine)) as url:
        assert expert_for(url, "Hello?") == "hr@1"
        release(project, "hr", 2)
        assert expert_for(url, "Hello?") == "hr@2"


def test_after_a_release_not_one_token_is_the_old_experts(
    project: Project, make_expert: MakeExpert, serve: Serve
) -> None:
    """Of two versions whose question has the same tokens, on an engine that reuses the states of what it has read."""
    query = {"query": "How many days of leave do I get each year, and when is pay day?", "temperature": 0}
    make_expert(project)
    make_expert(project, version=2, seed=2, released=False)
    spoken = {}
    for version in (1, 2):
        with serve(create_app(project, MixedEngine(ModelRunner(project.config.base_model, "cpu")))) as url:
            spoken[version] = httpx.post(f"{url}/api/infer/hr@{version}", json=query, timeout=30).json()["response"]
    assert spoken[1] != spoken[2]
    engine = MixedEngine(ModelRunner(project.config.base_model, "cpu"))
    with serve(create_app(project, engine)) as url:

        def ask() -> str:
            computed = {"Cache-Control": "no-store"}
            answer: str = httpx.post(f"{url}/api/hr", json=query, headers=computed, timeout=30).json()["response"]
            return answer

        assert [ask(), ask()] == [spoken[1]] * 2
        reused = engine.status.reused_tokens
        assert reused > 0
        release(project, "hr", 2)
        assert ask() == spoken[2]
        assert engine.status.reused_tokens == reused
        release(project, "hr", 1)
        assert ask() == spoken[1]


def test_a_rollback_by_another_process_is_seen_by_the_running_server(
    project: Project, make_expert: MakeExpert, serve: Serve, engine: ScriptedEngine
) -> None:
    make_expert(project)
    make_expert(project, version=2, seed=2)
    with serve(create_app(project, engine)) as url:
        assert expert_for(url, "Hello?") == "hr@2"
        subprocess.run([sys.executable, "-c", ROLLBACK, str(project.root)], check=True, capture_output=True)
        assert expert_for(url, "Hello?") == "hr@1"


def test_a_split_release_answers_each_question_by_the_version_that_it_picks(
    canary: Project, serve: Serve, engine: ScriptedEngine
) -> None:
    made = live(canary, "hr")
    assert made is not None
    questions = [f"Question {number}?" for number in range(12)]
    with serve(create_app(canary, engine)) as url:
        answered = [expert_for(url, question) for question in questions]
        assert answered == [f"hr@{pick(made, question)}" for question in questions]
        assert len(Counter(answered)) == 2
        listed = httpx.get(f"{url}/api/models").json()["models"][0]
    assert listed["release"] == [{"version": "hr@1", "share": 50}, {"version": "hr@2", "share": 50}]
    assert listed["status"] == "loaded"


def test_a_conversation_stays_on_the_version_of_its_first_question(
    canary: Project, serve: Serve, engine: ScriptedEngine
) -> None:
    def answer(url: str, *turns: str) -> str:
        roles = ["system", "user", "assistant", "user"]
        messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
        reply = httpx.post(f"{url}/v1/chat/completions", json={"model": "hr", "messages": messages})
        fingerprint: str = reply.json()["system_fingerprint"]
        return fingerprint

    with serve(create_app(canary, engine)) as url:
        for first in "abcdef":
            begun = answer(url, "Be brief.", first)
            assert {answer(url, "Be brief.", first, "Yes.", later) for later in "uvwxyz"} == {begun}


def test_all_versions_of_the_default_models_release_are_loaded_at_the_start(
    canary: Project, serve: Serve, engine: ScriptedEngine
) -> None:
    with serve(create_app(with_serving(canary, default_model="hr"), engine)) as url:
        assert httpx.get(f"{url}/health").json()["loaded_models"] == ["hr@1", "hr@2"]


def test_a_release_whose_files_are_elsewhere_is_fetched_when_it_is_asked(
    tmp_path: Path, project: Project, make_expert: MakeExpert, engine: ScriptedEngine
) -> None:
    path = project.root / "quintet.yaml"
    with path.open("a") as config:
        config.write(f"registry: {{database: 'sqlite:///{tmp_path}/shared.db', artifacts: {tmp_path}/store}}\n")
    there = tmp_path / "other"
    there.mkdir()
    (there / "quintet.yaml").write_text(path.read_text())
    make_expert(Project.load(project.root))
    catalog = Catalog(LiveProject(Project.load(there)), engine)
    (entry, _) = asyncio.run(catalog.entries())
    assert (entry.status, entry.problem) == ("not loaded", None)
    model = asyncio.run(catalog.open("hr"))
    assert model.expert is not None
    assert model.expert.folder == there / "runs" / "hr" / "1" / "expert"
    assert model.expert.is_whole


def test_a_registry_that_does_not_answer_is_503(
    project: Project, make_expert: MakeExpert, serve: Serve, engine: ScriptedEngine
) -> None:
    make_expert(project)
    with serve(create_app(project, engine)) as url:
        assert expert_for(url, "Hello?") == "hr@1"
        rollback_target = project.root / "quintet.db"
        rollback_target.write_bytes(b"no database any more " * 400)
        answer = httpx.post(f"{url}/api/hr", json=QUERY)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "registry_unreachable"
