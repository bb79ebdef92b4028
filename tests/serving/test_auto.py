"""A question that names no department finds its own, of those that may be asked; what is nobody's is not sent."""

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import httpx
import pytest
from openai import OpenAI

from quintet.config import Project
from quintet.engine.interface import Token
from quintet.registry.keys import create_key
from quintet.router.router import router_path
from quintet.server.app import create_app
from tests.served import ScriptedEngine, Serve
from tests.server.routers import save_router

WORDS = {"hr": "leave", "finance": "invoice"}
LEAVE, INVOICE, NEITHER = "How much leave is there?", "Who pays an invoice?", "Why is the sky blue?"


def below(project: Project, choice: str, *, without: str | None = None) -> Project:
    """Return the project with another answer to what is nobody's, and perhaps without a department."""
    departments = {name: one for name, one in project.config.departments.items() if name != without}
    router = project.config.router.model_copy(update={"below": choice})
    changed = {"router": router, "departments": departments}
    return Project(project.root, project.config.model_copy(update=changed))


class Client:
    """Sends requests to an application without a network."""

    def __init__(self, project: Project, key: str | None = None) -> None:
        self.engine = ScriptedEngine([Token(40), Token(41), Token(None, "stop")])
        self._app = create_app(project, self.engine)
        self._headers = {"X-API-Key": key} if key else {}

    def send(self, method: str, path: str, body: object = None) -> httpx.Response:
        async def send_it() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://quintet") as client:
                return await client.request(method, path, json=body, headers=self._headers)

        return asyncio.run(send_it())

    def ask(self, query: str, path: str = "/api/ask") -> dict[str, Any]:
        response = self.send("POST", path, {"query": query})
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def chat(self, *turns: str, **more: Any) -> httpx.Response:
        roles = ("user", "assistant")
        messages = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]
        return self.send("POST", "/v1/chat/completions", {"model": "auto", "messages": messages, **more})


def key(project: Project, *departments: str) -> str:
    return create_key(project, departments=departments)[1]


@pytest.mark.parametrize("path", ["/api/ask", "/api/infer/auto"])
def test_a_question_goes_to_the_department_that_it_is_for(routed: Project, path: str) -> None:
    body = Client(routed).ask(INVOICE, path)
    assert (body["model"], body["department"], body["expert"]) == ("finance", "finance", "finance@1")
    assert body["probability"] > 0.99
    assert body["runner_up"] == {"department": "hr", "probability": pytest.approx(0, abs=0.01)}
    assert (body["choices"], body["tokens_generated"]) == ([], 2)


def test_what_is_for_none_of_them_is_answered_by_a_choice(routed: Project) -> None:
    client = Client(routed)
    body = client.ask(NEITHER)
    assert (body["model"], body["department"], body["probability"], body["expert"]) == (None, None, None, None)
    assert {choice["department"] for choice in body["choices"]} == set(WORDS)
    assert "hr: Answers hr questions." in body["response"]
    assert client.engine.requests == []


def test_or_by_the_base_where_the_project_says_so(routed: Project) -> None:
    body = Client(below(routed, "base")).ask(NEITHER)
    assert (body["model"], body["department"], body["choices"], body["tokens_generated"]) == ("base", None, [], 2)


def test_or_by_a_refusal(routed: Project) -> None:
    body = Client(below(routed, "decline")).ask(NEITHER)
    assert (body["model"], body["choices"]) == (None, [])
    assert "none of the departments" in body["response"]


def test_a_department_that_the_router_does_not_know_can_be_chosen(
    routed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = routed.config.departments["hr"].model_copy(update={"description": "New here."})
    departments = routed.config.departments | {"legal": section}
    project = Project(routed.root, routed.config.model_copy(update={"departments": departments}))
    assert Client(project).ask(NEITHER)["choices"][-1] == {
        "department": "legal", "description": "New here.", "probability": None,
    }  # fmt: skip


class TestOpenAI:
    def test_the_answer_names_who_gave_it(self, routed: Project) -> None:
        response = Client(routed).chat(LEAVE)
        assert (response.json()["model"], response.json()["system_fingerprint"]) == ("hr", "hr@1")
        assert response.headers["x-quintet-department"] == "hr"
        assert float(response.headers["x-quintet-probability"]) > 0.99
        assert response.headers["x-quintet-runner-up"] == "finance"

    def test_a_stream_does_too(self, routed: Project, serve: Serve) -> None:
        engine = ScriptedEngine([Token(40), Token(41), Token(None, "stop")])
        with serve(create_app(routed, engine)) as url, OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            messages: Any = [{"role": "user", "content": LEAVE}]
            raw = client.chat.completions.with_raw_response.create(model="auto", messages=messages, stream=True)
            chunks = list(raw.parse())
        assert raw.headers["x-quintet-department"] == "hr"
        assert {chunk.model for chunk in chunks} == {"hr"}
        assert engine.requests[0].department == "hr"

    def test_what_is_nobodys_is_answered_in_words_whole_or_streamed(self, routed: Project) -> None:
        whole = Client(routed).chat(NEITHER, n=2).json()
        assert whole["model"] == "auto"
        assert [choice["message"]["content"][:12] for choice in whole["choices"]] == ["It is not cl"] * 2
        assert whole["usage"]["total_tokens"] == 0
        streamed = Client(routed).chat(NEITHER, stream=True).text.split("\n\n")
        events = [json.loads(event.removeprefix("data: ")) for event in streamed[:-2]]
        said = [event["choices"][0]["delta"].get("content") for event in events]
        assert "".join(filter(None, said)) == whole["choices"][0]["message"]["content"]
        assert streamed[-2] == "data: [DONE]"

    def test_where_only_json_is_an_answer_it_is_refused(self, routed: Project) -> None:
        response = Client(routed).chat(NEITHER, response_format={"type": "json_object"})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "department_unclear")

    def test_what_says_nothing_by_itself_stays_with_its_conversation(self, routed: Project) -> None:
        assert Client(routed).chat(LEAVE, "26 days.", "And next year?").json()["model"] == "hr"
        assert Client(routed).chat(LEAVE, "26 days.", INVOICE).json()["model"] == "finance"

    def test_texts_that_go_on_are_routed_by_the_first(self, routed: Project) -> None:
        body = {"model": "auto", "prompt": "The invoice", "max_tokens": 2}
        assert Client(routed).send("POST", "/v1/completions", body).json()["model"] == "finance"
        refused = Client(routed).send("POST", "/v1/completions", body | {"prompt": [40, 41]})
        assert refused.json()["error"]["code"] == "department_unclear"

    def test_auto_is_a_model_where_it_finds_anybody(self, routed: Project, company: Project) -> None:
        def listed(client: Client) -> list[str]:
            return [model["id"] for model in client.send("GET", "/v1/models").json()["data"]]

        assert listed(Client(routed)) == ["hr", "finance", "auto", "base"]
        assert Client(routed).send("GET", "/v1/models/auto").json()["id"] == "auto"
        assert "auto" not in listed(Client(company))
        assert Client(company).send("GET", "/v1/models/auto").status_code == 404


class TestKeys:
    """A department that a key may not ask is nowhere in what it is told."""

    @pytest.mark.parametrize("query", [LEAVE, INVOICE, NEITHER, f"{LEAVE} {INVOICE}"])
    def test_it_is_told_what_it_would_be_told_if_there_were_no_other(self, routed_by_key: Project, query: str) -> None:
        secret = key(routed_by_key, "finance", "base")
        seen, alone = (
            Client(routed_by_key, secret).ask(query),
            Client(below(routed_by_key, "choices", without="hr"), secret).ask(query),
        )
        assert seen | {"latency_ms": 0} == alone | {"latency_ms": 0}
        assert "hr" not in json.dumps(seen).replace(query, "")

    def test_its_question_to_another_department_is_not_sent_to_its_own(self, routed_by_key: Project) -> None:
        body = Client(routed_by_key, key(routed_by_key, "finance")).ask(LEAVE)
        assert (body["model"], [one["department"] for one in body["choices"]]) == (None, ["finance"])

    def test_without_the_base_it_chooses(self, routed_by_key: Project) -> None:
        body = Client(below(routed_by_key, "base"), key(routed_by_key, "finance")).ask(NEITHER)
        assert (body["model"], len(body["choices"])) == (None, 1)

    def test_with_the_base_alone_it_is_told_that_there_is_nobody(self, routed_by_key: Project) -> None:
        client = Client(routed_by_key, key(routed_by_key, "base"))
        assert client.ask(LEAVE)["choices"] == []
        assert [model["id"] for model in client.send("GET", "/v1/models").json()["data"]] == ["base"]


class TestTheFile:
    def test_without_one_the_way_to_it_is_named(self, project: Project) -> None:
        response = Client(project).send("POST", "/api/ask", {"query": LEAVE})
        assert (response.status_code, response.json()["error"]["code"]) == (404, "router_not_trained")
        assert "quintet router train" in response.json()["error"]["message"]

    def test_a_new_one_holds_from_the_next_question_on(self, project: Project) -> None:
        client = Client(project)
        save_router(project, hr="leave")
        assert client.ask(INVOICE)["department"] is None
        save_router(project, finance="leave", hr="invoice")
        response = client.send("POST", "/api/ask", {"query": INVOICE})
        assert response.json()["error"]["code"] == "model_not_trained"
        assert "'hr'" in response.json()["error"]["message"]

    def test_one_that_is_removed_is_gone(self, project: Project) -> None:
        client = Client(project)
        save_router(project, hr="leave")
        client.ask(NEITHER)
        router_path(project).unlink()
        assert client.send("POST", "/api/ask", {"query": LEAVE}).json()["error"]["code"] == "router_not_trained"

    def test_a_damaged_one_does_not_replace_another(self, project: Project, caplog: pytest.LogCaptureFixture) -> None:
        client = Client(project)
        save_router(project, hr="leave")
        client.ask(NEITHER)
        router_path(project).write_bytes(b"no router")
        with caplog.at_level(logging.WARNING):
            assert [one["department"] for one in client.ask(NEITHER)["choices"]] == ["hr", "finance"]
            client.ask(NEITHER)
        assert len([record for record in caplog.records if "stays" in record.getMessage()]) == 1


def test_routing_loads_neither_torch_nor_scikit_learn(routed: Project) -> None:
    program = (
        "import sys; from pathlib import Path; from quintet.router.router import Router;"
        f"Router.load(Path({str(router_path(routed))!r})).rank('leave', ['hr']);"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
