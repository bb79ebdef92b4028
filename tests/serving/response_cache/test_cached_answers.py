"""Cached answers as clients see them: the same on every route, charged, rated and counted like any other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from quintet.config import CacheConfig, Project
from quintet.engine.interface import Token
from quintet.errors import BusyError, ConfigError
from quintet.registry.budgets import parse_budget
from quintet.registry.keys import create_key
from quintet.registry.releases import release
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine, Serve
from tests.serving.observability.test_metrics import READ, samples, send
from tests.serving.response_cache.conftest import PASSWORD, RunningRedis

ANSWER: list[Token | Exception] = [Token(40), Token(41), Token(42), Token(None, "stop")]
GREEDY = {"query": "How long is a week?", "temperature": 0}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
CHAT: dict[str, Any] = {
    "model": "hr", "messages": [{"role": "user", "content": "How long is a week?"}], "temperature": 0, "max_tokens": 12
}  # fmt: skip
VARIES = ("id", "created", "cached", "latency_ms")


def told(answer: httpx.Response) -> Any:
    """All that an answer says, but for what no two answers share; the events of a stream one by one."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
        return [stripped(json.loads(event)) for event in events[:-1]] + events[-1:]
    return stripped(answer.json())


def streamed(answer: httpx.Response) -> tuple[dict[int, Any], Any]:
    """What a stream says, in however many pieces: text, log probabilities and end of each choice; and the usage."""
    *events, usage, done = told(answer)
    assert done == "[DONE]"
    choices: dict[int, Any] = {}
    for (said,) in (event["choices"] for event in events):
        of_choice = choices.setdefault(said["index"], {"content": "", "logprobs": [], "end": None})
        of_choice["content"] += said["delta"].get("content", "")
        of_choice["logprobs"] += (said["logprobs"] or {}).get("content", [])
        of_choice["end"] = said["finish_reason"] or of_choice["end"]
    return choices, usage


def stripped(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in VARIES}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/hr", {"query": "What is the first question?", "temperature": 0, "max_tokens": 9}),
        ("/api/infer/base", {"query": "What is the second question?", "temperature": 0, "max_tokens": 9}),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "temperature": 1, "seed": 7}),
        ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 3}),
        ("/v1/chat/completions", {**CHAT, "n": 3, "temperature": 1, "seed": 11}),
        ("/v1/chat/completions", {**CHAT, "response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}),
        ("/v1/chat/completions", {**CHAT, "stop": ["a", "e", "i"], "logprobs": True}),
        ("/v1/completions", {"model": "base", "prompt": ["One", "Two"], "temperature": 0, "logprobs": 2}),
    ],
)  # fmt: skip
def test_an_answer_from_the_cache_says_what_was_computed(api: httpx.Client, path: str, body: dict[str, Any]) -> None:
    computed = api.post(path, json={**body, "user": "first"} if "v1" in path else body)
    again = api.post(path, json=body)
    assert (computed.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert (computed.json()["cached"], again.json()["cached"]) == (False, True)
    assert told(again) == told(computed)


@pytest.mark.parametrize("more", [{}, {"logprobs": True}, {"stop": ["a", "e"]}, {"n": 2}])
def test_a_stream_from_the_cache_says_what_was_computed(api: httpx.Client, more: dict[str, Any]) -> None:
    message = {"role": "user", "content": f"Tell me in pieces. {more}"}
    body = {**CHAT, "messages": [message], "stream": True, "stream_options": {"include_usage": True}, **more}
    computed, again = (api.post("/v1/chat/completions", json=body) for _ in range(2))
    assert (computed.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert streamed(again) == streamed(computed)


def test_whole_and_streamed_share_an_answer(api: httpx.Client) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "Whole first, please."}]}
    whole = api.post("/v1/chat/completions", json=body)
    streamed = api.post("/v1/chat/completions", json={**body, "stream": True})
    assert streamed.headers["x-cache"] == "hit"
    pieces = [event["choices"][0]["delta"].get("content", "") for event in told(streamed)[:-1]]
    assert "".join(pieces) == whole.json()["choices"][0]["message"]["content"]


def test_openais_client_takes_it_and_can_tell(openai: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Is this kept?"}]
    first, second = (
        openai.chat.completions.create(model="hr", messages=messages, temperature=0, max_tokens=3) for _ in range(2)
    )
    assert (first.cached, second.cached) == (False, True)  # type: ignore[attr-defined]


def test_whoever_wants_another_answer_each_time_gets_it(api: httpx.Client) -> None:
    answers = [api.post("/api/hr", json={"query": "Anything?", "max_tokens": 3}) for _ in range(2)]
    assert [(one.headers["x-cache"], one.json()["cached"]) for one in answers] == [("bypass", False)] * 2


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [("no-store", "bypass", "miss"), ("private, No-Store", "bypass", "miss"), ("no-cache", "bypass", "hit")],
)
def test_a_client_may_forbid_to_store_or_to_read(api: httpx.Client, header: str, first: str, second: str) -> None:
    body = {"query": f"What about {header}?", "temperature": 0, "max_tokens": 3}
    answers = [api.post("/api/hr", json=body, headers=headers) for headers in ({"Cache-Control": header}, {})]
    assert [one.headers["x-cache"] for one in answers] == [first, second]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Project:
    project = write_project(tmp_path_factory.mktemp("cached") / "company", tiny_base)
    make_expert(project)
    make_expert(project, version=2, seed=2, released=False)
    return project


def ask(query: str = "Hello?") -> tuple[str, str, object]:
    return "POST", "/api/hr", {"query": query, "temperature": 0}


def test_lookups_and_hits_are_counted_and_hits_are_no_work_of_the_engine(served: Project) -> None:
    *_, metrics = send(create_app(served, ScriptedEngine(ANSWER)), ask(), ask(), ask(), READ)
    counted = samples(metrics.text)
    assert counted["quintet_response_cache_queries_total", "hr"] == 3
    assert counted["quintet_response_cache_hits_total", "hr"] == 2
    assert counted["quintet_response_cache_hits_total", "finance"] == 0
    assert counted["vllm:generation_tokens_total", "hr"] == 3
    assert counted["vllm:request_success_total", "hr,stop"] == counted["vllm:request_prompt_tokens_count", "hr"] == 1


def test_a_new_release_never_answers_from_the_old_ones_cache(served: Project) -> None:
    app = create_app(served, ScriptedEngine(ANSWER))
    before = send(app, ask(), ask())
    release(served, "hr", 2)
    after = send(app, ask(), ask())
    release(served, "hr", 1)
    back = send(app, ask())
    assert [one.headers["x-cache"] for one in (*before, *after, *back)] == ["miss", "hit", "miss", "hit", "hit"]


def test_an_error_is_not_kept_and_says_nothing_of_the_cache(served: Project) -> None:
    engine = ScriptedEngine([Token(40), BusyError("full")])
    app = create_app(served, engine)
    refused = send(app, ask(), ask())
    engine.script = ANSWER
    assert [one.status_code for one in refused] == [429, 429]
    assert "x-cache" not in refused[0].headers
    assert send(app, ask())[0].headers["x-cache"] == "miss"


def with_cache(project: Project, cache: CacheConfig) -> Project:
    serving = project.config.serving.model_copy(update={"cache": cache})
    return Project(project.root, project.config.model_copy(update={"serving": serving}))


def test_when_it_is_off_nothing_is_kept_nor_said_of_it(served: Project) -> None:
    engine = ScriptedEngine(ANSWER)
    answers = send(create_app(with_cache(served, CacheConfig(store="off")), engine), ask(), ask())
    assert len(engine.requests) == 2
    assert all("x-cache" not in one.headers and one.json()["cached"] is False for one in answers)


def test_a_cached_answer_can_be_rated(served: Project) -> None:
    app = create_app(served, ScriptedEngine(ANSWER))
    _, again = send(app, ask(), ask())
    assert again.headers["x-cache"] == "hit"
    opinion = {"request_id": again.headers["x-request-id"], "rating": "up"}
    assert send(app, ("POST", "/api/feedback", opinion))[0].json()["model"] == "hr@1"


def test_a_cached_answer_costs_what_a_computed_one_does(project: Project) -> None:
    _, key = create_key(
        project, departments=["base"], budgets=[parse_budget("1000/day"), parse_budget("9 requests/day")]
    )
    app = create_app(project, ScriptedEngine(ANSWER))
    question = ("POST", "/api/infer/base", {"query": "Hello?", "temperature": 0})
    computed, again = send(app, question, question, key=key)
    left = [(int(one.headers["x-ratelimit-remaining-tokens"])) for one in (computed, again)]
    assert again.json()["cached"]
    assert 1000 - left[0] == left[0] - left[1] > 3
    assert again.headers["x-ratelimit-remaining-requests"] == "7"


def test_a_department_that_a_key_may_not_ask_is_not_there_whether_it_is_cached_or_not(
    tmp_path: Path, tiny_base: Path, make_expert: MakeExpert
) -> None:
    project = write_project(tmp_path / "company", tiny_base)
    make_expert(project)
    (_, hr), (_, finance) = (create_key(project, departments=[name]) for name in ("hr", "finance"))
    app = create_app(project, ScriptedEngine(ANSWER))
    before = send(app, ask(), key=finance)[0]
    assert send(app, ask(), key=hr)[0].status_code == 200
    after = send(app, ask(), key=finance)[0]
    assert (before.status_code, before.content) == (after.status_code, after.content)
    assert after.status_code == 404
    assert "x-cache" not in after.headers


def test_two_servers_share_what_is_kept_in_redis(served: Project, serve: Serve, shared_redis: RunningRedis) -> None:
    project = with_cache(served, CacheConfig(store=shared_redis.url))
    answers = []
    for _ in range(2):
        with serve(create_app(project, ScriptedEngine(ANSWER))) as url:
            _, path, body = ask("Shared?")
            answers.append(httpx.post(url + path, json=body))
    assert [one.headers["x-cache"] for one in answers] == ["miss", "hit"]
    assert told(answers[0]) == told(answers[1])


def test_no_request_is_lost_when_redis_is_killed_in_mid_load(
    served: Project, serve: Serve, own_redis: RunningRedis
) -> None:
    app = create_app(with_cache(served, CacheConfig(store=own_redis.url)), ScriptedEngine(ANSWER, pause=0.001))
    answered: list[httpx.Response] = []

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        for turn in range(10):
            _, path, body = ask(f"Question {(number + turn) % 8}?")
            answered.append(await client.post(path, json=body))
            if len(answered) == 30:
                own_redis.process.kill()

    async def load(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            await asyncio.gather(*(keep_asking(client, number) for number in range(6)))

    with serve(app) as url:
        asyncio.run(load(url))
    assert [one.status_code for one in answered] == [200] * 60
    assert len({one.json()["response"] for one in answered}) == 1
    assert {one.headers["x-cache"] for one in answered[:30]} == {"hit", "miss"}


def test_no_error_shows_the_password_of_a_redis(served: Project) -> None:
    with pytest.raises(ConfigError) as refused:
        create_app(with_cache(served, CacheConfig(store=f"redis://:{PASSWORD}@host:port/0")), ScriptedEngine(ANSWER))
    assert PASSWORD not in str(refused.value)
