"""What the server says of itself."""

from pathlib import Path

import httpx

from quintet import __version__
from quintet.config import Project
from quintet.server.app import create_app
from tests.served import MakeExpert, ScriptedEngine, Serve


def test_the_root_says_what_this_is_and_where_to_ask(api: httpx.Client) -> None:
    body = api.get("/").json()
    assert body["name"] == "Quintet"
    assert (body["company"], body["version"], body["device"]) == ("Tiny", __version__, "cpu")
    assert {
        "GET /", "GET /docs", "GET /api/models", "GET /health", "GET /v1/models",
        "POST /api/{department}", "POST /api/infer/{model}", "POST /v1/chat/completions",
    } <= body["endpoints"].keys()  # fmt: skip


def test_the_documentation_page_and_its_schema_are_served(api: httpx.Client) -> None:
    assert "swagger" in api.get("/docs").text.lower()
    assert "/api/{department}" in api.get("/openapi.json").json()["paths"]


def test_the_models_are_all_departments_and_the_base(api: httpx.Client, company: Project) -> None:
    api.post("/api/hr", json={"query": "Hello?", "max_tokens": 1})
    body = api.get("/api/models").json()
    base = company.config.base_model
    assert body == {
        "models": [
            {
                "name": "hr",
                "description": "Answers hr questions.",
                "method": "lora",
                "base": base,
                "status": "loaded",
                "answered_by": ["expert"],
                "version": "hr@1",
                "release": [{"version": "hr@1", "share": 100}],
                "problem": None,
            },
            {
                "name": "finance",
                "description": "Answers finance questions.",
                "method": "lora",
                "base": base,
                "status": "not trained",
                "answered_by": ["expert"],
                "version": None,
                "release": [],
                "problem": None,
            },
        ],
        "base": {"name": base, "status": "loaded"},
    }


def test_health_names_the_device_and_the_loaded_experts(api: httpx.Client) -> None:
    api.post("/api/hr", json={"query": "Hello?", "max_tokens": 1})
    assert api.get("/health").json() == {
        "status": "ok",
        "device": "cpu",
        "gpu_name": None,
        "loaded_models": ["hr@1"],
    }


def test_an_expert_that_nobody_asked_yet_is_not_loaded(project: Project, make_expert: MakeExpert, serve: Serve) -> None:
    make_expert(project)
    with serve(create_app(project, ScriptedEngine([]))) as url:
        assert httpx.get(f"{url}/api/models").json()["models"][0]["status"] == "not loaded"
        assert httpx.get(f"{url}/health").json()["loaded_models"] == []


def test_one_broken_expert_is_told_of_and_hides_no_other(
    project: Project, make_expert: MakeExpert, serve: Serve
) -> None:
    make_expert(project, "finance")
    broken = make_expert(project, "hr").folder / "expert.json"
    broken.write_text("{")
    with serve(create_app(project, ScriptedEngine([]))) as url:
        hr, finance = httpx.get(f"{url}/api/models").json()["models"]
        assert str(broken) in hr["problem"]
        assert finance["version"] == "finance@1"
        assert httpx.get(f"{url}/health").status_code == 200


def test_missing_files_are_told_of_before_anyone_asks(project: Project, make_expert: MakeExpert, serve: Serve) -> None:
    gone: Path = make_expert(project).folder / "adapter_model.safetensors"
    gone.unlink()
    with serve(create_app(project, ScriptedEngine([]))) as url:
        assert str(gone) in httpx.get(f"{url}/api/models").json()["models"][0]["problem"]
