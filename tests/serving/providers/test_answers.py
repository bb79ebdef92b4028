"""Departments that a provider answers for, alone or before or after their expert: over real HTTP on both sides."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quintet.config import Project, parse_config
from quintet.engine.interface import Token
from quintet.errors import BusyError, DeadlineError
from quintet.registry.budgets import parse_budget
from quintet.registry.keys import create_key, list_keys
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.fake_endpoint import HANG, FakeEndpoint, SilenceError, Stream, refuses, says_part, serving, streams
from tests.served import MakeExpert, ScriptedEngine, Serve

QUERY = {"query": "How long is a contract valid?", "max_tokens": 20}
OWN: list[Token | Exception] = [Token(40), Token(41), Token(None, "stop")]
CONFIG = """
base_model: {base}
departments:
  hr: {{description: Leave, data: hr.jsonl}}
  legal: {{description: Contracts, answered_by: [cloud]}}
  finance: {{description: Invoices, data: finance.jsonl, answered_by: [expert, cloud]}}
  sales: {{description: Offers, data: sales.jsonl, answered_by: [expert, cloud]}}
  marketing: {{description: Leaflets, data: marketing.jsonl, answered_by: [cloud, expert]}}
providers:
  cloud: {{url: "{url}", model: big, key_name: CLOUD_KEY, retries: 0, first_timeout: 0.4, break_after: 1000}}
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeEndpoint]:
    with pytest.MonkeyPatch.context() as patch, serving(FakeEndpoint()) as fake:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("CLOUD_KEY", "hush-hush")
        yield fake


@pytest.fixture(scope="module")
def firm(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert, cloud: FakeEndpoint
) -> Project:
    """Experts answer for hr, sales and marketing; finance has none yet."""
    root = write_project(tmp_path_factory.mktemp("elsewhere") / "firm", tiny_base).root
    text = CONFIG.format(base=tiny_base, url=cloud.url)
    project = Project(root, parse_config(text, root / "quintet.yaml"))
    for name in ("hr", "sales", "marketing"):
        make_expert(project, name)
    return project


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(OWN)


@pytest.fixture(scope="module")
def address(firm: Project, engine: ScriptedEngine, serve: Serve) -> Iterator[str]:
    with serve(create_app(firm, engine)) as url:
        yield url


@pytest.fixture
def api(address: str, cloud: FakeEndpoint, engine: ScriptedEngine) -> Iterator[httpx.Client]:
    for seen in (cloud.bodies, cloud.keys, cloud.paths, engine.requests):
        seen.clear()
    cloud.answer, cloud.abandoned, engine.script = lambda body: streams("Three ", "years."), 0, OWN
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def numbers(api: httpx.Client, **headers: str) -> dict[tuple[str, ...], float]:
    text = api.get("/metrics", headers=headers).text
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def chat(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "How long is a contract valid?"}], **fields}


def test_a_department_is_answered_for_by_its_provider(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: streams("Three ", "years.", usage=(11, 4), reason="length")
    body = api.post("/api/legal", json=QUERY | {"top_p": 0.5}).json()
    assert {name: body[name] for name in ("model", "response", "expert", "provider")} == {
        "model": "legal", "response": "Three years.", "expert": None, "provider": "cloud",
    }  # fmt: skip
    assert (body["tokens_generated"], body["finish_reason"]) == (4, "length")
    assert cloud.keys == ["Bearer hush-hush"]
    assert cloud.bodies == [
        {
            "messages": [{"role": "user", "content": QUERY["query"]}],
            "model": "big", "max_tokens": 20, "top_p": 0.5, "stream": True, "stream_options": {"include_usage": True},
        }
    ]  # fmt: skip


def test_openais_fields_are_passed_on_and_no_others(api: httpx.Client, cloud: FakeEndpoint) -> None:
    tool = {"type": "function", "function": {"name": "days", "parameters": {"type": "object"}}}
    wanted = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "days"}}, "temperature": 0.0,
        "seed": 4, "stop": ["\n"], "logprobs": True, "top_logprobs": 2, "top_k": 5,
    }  # fmt: skip
    sent = chat("legal", max_completion_tokens=9, user="ann", metadata={"a": "b"}, store=True, **wanted)
    assert api.post("/v1/chat/completions", json=sent).status_code == 200
    assert cloud.bodies[0] == wanted | {
        "messages": sent["messages"], "max_tokens": 9,
        "model": "big", "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_a_chat_says_which_model_answered(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: streams("Three ", "years.", usage=(11, 4))
    body = api.post("/v1/chat/completions", json=chat("legal")).json()
    assert body["model"] == "cloud/big"
    assert body["choices"][0]["message"]["content"] == "Three years."
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


def test_probabilities_and_calls_come_through(api: httpx.Client, cloud: FakeEndpoint) -> None:
    said = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [{"token": "e", "logprob": -1.5}]}
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "days", "arguments": "{}"}}
    parts: list[dict[str, Any]] = [
        {"delta": {"content": "é"}, "logprobs": {"content": [said]}},
        {"delta": {"tool_calls": [call]}},
        {"delta": {}, "finish_reason": "tool_calls"},
    ]
    events = [f"data: {json.dumps({'choices': [{'index': 0, **part}]})}\n\n" for part in parts]
    cloud.answer = lambda body: Stream([*events, "data: [DONE]\n\n"])
    tools = [{"type": "function", "function": {"name": "days"}}]
    choice = api.post("/v1/chat/completions", json=chat("legal", logprobs=True, tools=tools)).json()["choices"][0]
    (told,) = choice["logprobs"]["content"]
    assert (told["token"], told["logprob"], told["bytes"]) == ("é", -0.5, [195, 169])
    assert told["top_logprobs"][0]["token"] == "e"
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "days", "arguments": "{}"}


def test_texts_go_on_too(api: httpx.Client, cloud: FakeEndpoint) -> None:
    ends = [{"index": number, "text": f" {number}", "finish_reason": "stop"} for number in (1, 0)]
    cloud.answer = lambda body: Stream([f"data: {json.dumps({'choices': ends})}\n\n"])
    body = api.post("/v1/completions", json={"model": "legal", "prompt": ["one", "two"]}).json()
    assert [choice["text"] for choice in body["choices"]] == [" 0", " 1"]
    assert (cloud.paths, cloud.bodies[0]["prompt"]) == (["/v1/completions"], ["one", "two"])


def test_pieces_are_passed_on_as_they_come(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: Stream([says_part("Three "), HANG])
    with api.stream("POST", "/v1/chat/completions", json=chat("legal", stream=True)) as response:
        lines = response.iter_lines()
        line = next(line for line in lines if "Three" in line)
        assert json.loads(line.removeprefix("data: "))["model"] == "cloud/big"
        assert cloud.abandoned == 0
    wait_until(lambda: cloud.abandoned == 1)


def test_a_client_that_goes_away_before_the_first_word_takes_its_connection_along(
    api: httpx.Client, cloud: FakeEndpoint
) -> None:
    cloud.answer = lambda body: Stream([": ping\n\n", HANG])
    with pytest.raises(httpx.ReadTimeout):
        api.post("/api/legal", json=QUERY, timeout=0.2)
    wait_until(lambda: cloud.abandoned == 1)


@pytest.mark.parametrize(
    ("reply", "status", "code", "says"),
    [
        (refuses(500, "oops"), 502, "provider_failed", "answered 500"),
        (refuses(401, "hush-hush"), 502, "provider_failed", "does not let this server in"),
        (refuses(429, "slow", Retry_After="7"), 503, "provider_unavailable", "takes no more requests for now"),
    ],
)
def test_what_went_wrong_is_told_without_where(
    api: httpx.Client,
    cloud: FakeEndpoint,
    caplog: pytest.LogCaptureFixture,
    reply: Any,
    status: int,
    code: str,
    says: str,
) -> None:
    caplog.set_level(logging.INFO, "quintet")
    cloud.answer = lambda body: reply
    response = api.post("/api/legal", json=QUERY)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"] == f"department 'legal' cannot answer now: its provider 'cloud' {says}; try again later"
    assert response.headers.get("retry-after") == ("7" if status == 503 else None)
    assert "hush" not in response.text + caplog.text


def test_who_does_not_begin_in_time_is_a_504(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answers_in_turn(SilenceError)
    response = api.post("/api/legal", json=QUERY)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "provider_timeout")


def test_a_failure_in_mid_stream_is_an_event(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: Stream([says_part("Three ")])
    text = api.post("/v1/chat/completions", json=chat("legal", stream=True)).text
    assert json.loads(text.strip().splitlines()[-1].removeprefix("data: "))["error"]["code"] == "provider_failed"
    assert "[DONE]" not in text


def test_what_the_provider_refuses_is_a_400(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: refuses(400, "top_k: not known")
    for department in ("legal", "marketing"):
        response = api.post("/v1/chat/completions", json=chat(department, top_k=3))
        assert response.status_code == 400
        assert "the provider 'cloud' refuses the request: top_k: not known" in response.json()["error"]["message"]


@pytest.mark.parametrize("script", [[BusyError("full")], [DeadlineError("late")], [ZeroDivisionError()]])
def test_a_provider_answers_when_the_expert_cannot(
    api: httpx.Client, engine: ScriptedEngine, script: list[Token | Exception]
) -> None:
    engine.script = script
    before = numbers(api)
    assert api.post("/api/sales", json=QUERY).json()["provider"] == "cloud"
    name = ("quintet_fallbacks_total", "cloud", "sales")
    assert numbers(api)[name] == before.get(name, 0) + 1


def test_a_provider_answers_when_there_is_no_expert(api: httpx.Client) -> None:
    assert api.post("/api/finance", json=QUERY).json()["provider"] == "cloud"


def test_an_expert_that_can_answer_does(api: httpx.Client, cloud: FakeEndpoint) -> None:
    body = api.post("/api/sales", json=QUERY).json()
    assert (body["expert"], body["provider"]) == ("sales@1", None)
    assert not cloud.bodies


def test_an_expert_that_fails_once_it_has_begun_is_not_replaced(
    api: httpx.Client, engine: ScriptedEngine, cloud: FakeEndpoint
) -> None:
    engine.script = [Token(40), Token(41), BusyError("oops")]
    assert api.post("/api/sales", json=QUERY).status_code == 429
    assert not cloud.bodies


def test_what_is_wrong_with_the_question_is_not_asked_elsewhere(api: httpx.Client, cloud: FakeEndpoint) -> None:
    assert api.post("/api/sales", json=QUERY | {"query": "long " * 300}).status_code == 400
    assert not cloud.bodies


def test_an_expert_answers_when_the_provider_cannot(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: refuses(503, "full")
    body = api.post("/api/marketing", json=QUERY).json()
    assert (body["expert"], body["provider"]) == ("marketing@1", None)
    streamed = api.post("/v1/chat/completions", json=chat("marketing", stream=True)).text
    assert '"system_fingerprint": "marketing@1"' in streamed


def test_when_nobody_can_answer_the_error_is_of_who_may_be_able_to_later(
    api: httpx.Client, cloud: FakeEndpoint, engine: ScriptedEngine
) -> None:
    cloud.answer = lambda body: refuses(503, "full")
    assert api.post("/api/finance", json=QUERY).status_code == 503


def test_token_ids_mean_nothing_to_another_model(
    api: httpx.Client, cloud: FakeEndpoint, engine: ScriptedEngine
) -> None:
    engine.script = [BusyError("full")]
    assert api.post("/v1/chat/completions", json=chat("sales", logit_bias={"5": 1.0})).status_code == 429
    assert not cloud.bodies


def test_a_named_version_is_no_one_elses(api: httpx.Client, cloud: FakeEndpoint) -> None:
    assert api.post("/api/infer/finance@1", json=QUERY).status_code == 404
    assert not cloud.bodies


def test_a_provider_that_hangs_holds_up_nobody_else(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: Stream([": ping\n\n", HANG])

    def hang(_: int) -> None:
        with pytest.raises(httpx.ReadTimeout):
            api.post("/api/legal", json=QUERY, timeout=0.5)

    with ThreadPoolExecutor(12) as clients:
        hanging = clients.map(hang, range(12))
        wait_until(lambda: len(cloud.bodies) == 12)
        began = time.monotonic()
        assert api.post("/api/hr", json=QUERY).json()["expert"] == "hr@1"
        assert time.monotonic() - began < 0.5
        list(hanging)
    wait_until(lambda: cloud.abandoned == 12)


def test_the_lists_tell_who_answers(api: httpx.Client) -> None:
    listed = {entry["name"]: entry for entry in api.get("/api/models").json()["models"]}
    legal = listed["legal"]
    assert (legal["status"], legal["method"], legal["base"]) == ("elsewhere", None, "big")
    assert listed["marketing"]["answered_by"] == ["cloud", "expert"]
    models = {model["id"]: model for model in api.get("/v1/models").json()["data"]}
    assert models["legal"]["root"] == models["finance"]["root"] == "big"
    assert api.get("/v1/models/finance").json()["root"] == "big"


def test_answers_and_failures_are_counted(api: httpx.Client, cloud: FakeEndpoint) -> None:
    cloud.answer = lambda body: streams("Three ", "years.", usage=(11, 4))
    before = numbers(api)
    api.post("/api/legal", json=QUERY)
    cloud.answer = lambda body: refuses(500, "oops")
    api.post("/api/legal", json=QUERY)
    after = numbers(api)

    def rise(*name: str) -> float:
        return after[name] - before.get(name, 0)

    assert rise("vllm:prompt_tokens_total", "legal", "cloud/big") == 11
    assert rise("vllm:generation_tokens_total", "legal", "cloud/big") == 4
    assert rise("vllm:request_success_total", "legal", "stop", "cloud/big") == 1
    assert rise("quintet_provider_failures_total", "legal", "cloud", "refused") == 1
    assert rise("quintet_rejections_total", "legal", "cloud/big", "provider_failed") == 1
    assert after["quintet_provider_breaker", "cloud"] == 0


def test_the_log_says_who_answered(api: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quintet.requests")
    api.post("/api/legal", json=QUERY)
    wait_until(lambda: "/api/{department}" in caplog.text)
    assert " cloud/big " in caplog.text
    assert "contract" not in caplog.text


def test_a_key_pays_what_the_provider_says_and_sees_nothing_of_what_it_may_not_ask(
    firm: Project, cloud: FakeEndpoint, serve: Serve, tmp_path: Path
) -> None:
    cloud.answer = lambda body: streams("Three ", "years.", usage=(300, 4))
    own = Project(tmp_path, firm.config)
    lawyer = create_key(own, departments=("legal",), budgets=[parse_budget("1k/day")])[1]
    clerk = create_key(own, departments=("hr",))[1]
    with serve(create_app(own, ScriptedEngine(OWN))) as url, closing(httpx.Client(base_url=url, timeout=20)) as api:
        paid = api.post("/api/legal", json=QUERY, headers={"X-API-Key": lawyer})
        assert paid.headers["x-ratelimit-remaining-tokens"] == str(1000 - 304)
        wait_until(lambda: list_keys(own)[0].budgets[0].used == 304)
        cloud.answer = lambda body: refuses(500, "oops")
        api.post("/api/legal", json=QUERY, headers={"X-API-Key": lawyer})
        wait_until(lambda: list_keys(own)[0].budgets[0].used == 304)
        cloud.bodies.clear()
        seen = [
            api.request(method, path, json=body, headers={"X-API-Key": clerk}).text
            for method, path, body in (
                ("POST", "/api/legal", QUERY), ("POST", "/v1/chat/completions", chat("legal")),
                ("GET", "/api/models", None), ("GET", "/v1/models", None), ("GET", "/v1/models/legal", None),
                ("GET", "/health", None),
            )
        ]  # fmt: skip
        assert not cloud.bodies
        assert not any(word in text for text in seen for word in ("cloud", "Contracts", "big"))
