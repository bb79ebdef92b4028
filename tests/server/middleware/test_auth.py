"""What a key opens, what it does not, what it costs, and what is said to those who have none."""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any

import httpx
import openai
import pytest
from fastapi import Depends
from sqlalchemy import text

from quintet.config import KeyMode, Project
from quintet.engine.interface import Request, Token
from quintet.errors import BusyError
from quintet.registry import database
from quintet.registry.budgets import parse_budget
from quintet.registry.keys import EVERYTHING, ROLES, Role, create_key, list_keys, revoke_key
from quintet.server.app import create_app
from quintet.server.middleware.auth import OPEN_PATHS, require_admin
from tests.served import MakeExpert, ScriptedEngine, Serve
from tests.server.test_serving import ENDLESS, wait_for, with_serving

ANSWER: list[Token | Exception] = [Token(40), Token(41), Token(None, "stop")]
QUERY: dict[str, Any] = {"query": "Hello?", "max_tokens": 50}
CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 50}
Open = Callable[..., AbstractContextManager[httpx.Client]]


def make_key(project: Project, *departments: str, roles: tuple[Role, ...] = ("ask",), budgets: str = "") -> str:
    limits = [parse_budget(budget) for budget in budgets.split(",") if budget]
    return create_key(project, departments=departments, roles=roles, budgets=limits)[1]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def refusal(response: httpx.Response) -> tuple[Any, ...]:
    """All of a response that could tell one refusal from another."""
    headers = tuple(
        sorted((name, value) for name, value in response.headers.items() if name not in ("date", "x-request-id"))
    )
    return response.status_code, headers, response.content


def remaining(response: httpx.Response, unit: str = "tokens") -> int:
    return int(response.headers[f"x-ratelimit-remaining-{unit}"])


def used(project: Project) -> int:
    return list_keys(project)[-1].budgets[0].used


@pytest.fixture
def opened(project: Project, serve: Serve) -> Open:
    """Serves the project, and yields a client of it."""

    @contextmanager
    def open_(engine: ScriptedEngine | None = None, mode: KeyMode | None = None) -> Iterator[httpx.Client]:
        with serve(create_app(project, engine or ScriptedEngine(ANSWER), mode)) as url, httpx.Client(
            base_url=url, timeout=20
        ) as client:  # fmt: skip
            yield client

    return open_


@pytest.fixture
def trained(project: Project, make_expert: MakeExpert) -> Project:
    make_expert(project, "hr")
    make_expert(project, "finance")
    return project


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "Authorization: bearer  {}", "X-API-Key: {}"])
def test_a_key_may_come_either_way(opened: Open, project: Project, header: str) -> None:
    name, value = header.format(make_key(project, "base")).split(": ")
    with opened() as client:
        assert client.post("/api/infer/base", json=QUERY, headers={name: value}).status_code == 200


def test_a_key_in_its_own_header_goes_before_what_a_proxy_may_want(opened: Open, project: Project) -> None:
    key = make_key(project, "base")
    valid = [{**bearer("none"), "X-API-Key": key}, {**bearer(key), "X-API-Key": ""}]
    valid += [{"Authorization": "Basic dTpw", "X-API-Key": key}]
    with opened() as client:
        assert [client.get("/v1/models", headers=headers).status_code for headers in valid] == [200] * 3
        assert client.get("/v1/models", headers={**bearer(key), "X-API-Key": "wrong"}).status_code == 401


def test_no_refusal_tells_why(opened: Open, project: Project) -> None:
    valid, revoked, expired = (create_key(project, departments=["base"]) for _ in range(3))
    revoke_key(project, revoked[0].id)
    with database.writing(project) as session:
        session.execute(text(f"UPDATE keys SET expires_at = created_at WHERE id = '{expired[0].id}'"))
    wrong = valid[1][:-1] + ("a" if valid[1][-1] != "a" else "b")
    unknown = f"qk_{'a' * 12}_{'a' * 43}"
    keys = ["none", "", "ключ", wrong, unknown, revoked[1], expired[1]]
    presented = [{}, {b"Authorization": b"Basic dTpw"}, *({b"X-API-Key": key.encode()} for key in keys)]
    with opened() as client:
        refused = [client.post("/api/hr", json=QUERY, headers=headers) for headers in presented]
        assert client.get("/v1/models", headers=bearer(valid[1])).status_code == 200
    assert {refusal(response) for response in refused} == {refusal(refused[0])}
    assert refused[0].status_code == 401
    assert refused[0].headers["www-authenticate"] == 'Bearer realm="quintet"'
    assert refused[0].json()["error"]["code"] == "invalid_api_key"


def test_a_revoked_key_opens_nothing_from_the_next_request_on(opened: Open, project: Project) -> None:
    made, key = create_key(project, departments=["base"])
    with opened() as client:
        assert client.post("/api/infer/base", json=QUERY, headers=bearer(key)).status_code == 200
        revoke_key(project, made.id)
        assert client.post("/api/infer/base", json=QUERY, headers=bearer(key)).status_code == 401


def test_a_key_sees_its_departments_and_no_other(opened: Open, trained: Project) -> None:
    key = bearer(make_key(trained, "hr"))
    with opened() as client:
        assert client.post("/api/hr", json=QUERY, headers=key).json()["expert"] == "hr@1"
        listed = client.get("/api/models", headers=key).json()["models"]
        openai_listed = client.get("/v1/models", headers=key).json()["data"]
        refused = client.post("/api/finance", json=QUERY, headers=key)
        base = client.post("/api/infer/base", json=QUERY, headers=key)
    assert [entry["name"] for entry in listed] == ["hr"]
    assert [entry["id"] for entry in openai_listed] == ["hr"]
    assert refused.status_code == 404
    assert refused.json()["error"]["message"] == "there is no model named 'finance'; there are: hr"
    assert base.json()["error"]["message"] == "there is no model named 'base'; there are: hr"


def test_a_key_to_everything_sees_the_base_too(opened: Open, trained: Project) -> None:
    key = bearer(make_key(trained, EVERYTHING))
    with opened() as client:
        listed = client.get("/v1/models", headers=key).json()["data"]
    assert [entry["id"] for entry in listed] == ["hr", "finance", "base"]


def test_strangers_see_no_department_where_they_need_no_key(opened: Open, trained: Project) -> None:
    key = bearer(make_key(trained, "finance"))
    with opened() as client:
        client.post("/api/finance", json=QUERY, headers=key).raise_for_status()
        assert client.get("/health", headers=key).json()["loaded_models"] == ["finance@1"]
        assert client.get("/health").json()["loaded_models"] == []
        for path in ("/", "/docs", "/openapi.json", "/health"):
            response = client.get(path)
            assert response.status_code == 200
            assert "finance" not in response.text
        assert client.get("/health", headers=bearer("wrong")).status_code == 401


def test_all_else_wants_a_key_and_the_documentation_says_so(opened: Open, project: Project) -> None:
    make_key(project, "hr")
    with opened() as client:
        paths = client.get("/openapi.json").json()["paths"]
        asked = [(method, path, operation) for path, operations in paths.items()
                 for method, operation in operations.items() if path not in OPEN_PATHS]  # fmt: skip
        assert len(asked) >= 6
        for method, path, operation in asked:
            assert operation["security"] == [{"Bearer": []}, {"X-API-Key": []}], path
            assert "401" in operation["responses"]
            assert client.request(method, path).status_code == 401
        assert client.get("/nowhere").status_code == 401


def test_a_role_is_needed_for_what_it_is_for(project: Project, serve: Serve) -> None:
    app = create_app(project, ScriptedEngine(ANSWER))
    app.add_api_route("/admin/test", lambda: "done", dependencies=[Depends(require_admin)])
    admin, asker = (bearer(make_key(project, "base", roles=(role,))) for role in ROLES[::-1])
    with serve(app) as url:
        statuses = [
            (httpx.get(f"{url}/admin/test", headers=key).status_code,
             httpx.post(f"{url}/api/infer/base", json=QUERY, headers=key).status_code)
            for key in (admin, asker)
        ]  # fmt: skip
        refused = httpx.post(f"{url}/api/infer/base", json=QUERY, headers=admin)
    assert statuses == [(200, 403), (403, 200)]
    assert refused.json()["error"]["code"] == "insufficient_permissions"
    assert "quintet keys create --role ask" in refused.json()["error"]["message"]


def test_a_server_without_keys_is_open_until_there_is_one_and_never_again(opened: Open, project: Project) -> None:
    with opened() as client:
        assert client.post("/api/infer/base", json=QUERY, headers=bearer("none")).status_code == 200
        made, key = create_key(project, departments=["base"])
        assert client.post("/api/infer/base", json=QUERY, headers=bearer("none")).status_code == 401
        assert client.post("/api/infer/base", json=QUERY, headers=bearer(key)).status_code == 200
        revoke_key(project, made.id)
        assert client.post("/api/infer/base", json=QUERY).status_code == 401
        (project.root / "quintet.db").unlink()
        assert client.post("/api/infer/base", json=QUERY).status_code == 401
    (project.root / "quintet.db").unlink(missing_ok=True)


def test_a_server_may_want_keys_before_there_are_any(opened: Open) -> None:
    with opened(mode="required") as client:
        assert client.post("/api/infer/base", json=QUERY).status_code == 401
        assert client.get("/health").status_code == 200


def test_a_server_may_want_no_keys_though_there_are_some(opened: Open, project: Project) -> None:
    make_key(project, "hr")
    with opened(mode="off") as client:
        assert client.post("/api/infer/base", json=QUERY).status_code == 200
        assert client.post("/api/infer/base", json=QUERY, headers=bearer("none")).status_code == 200


def test_an_answer_costs_what_its_usage_says_and_the_headers_say_what_is_left(opened: Open, project: Project) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day,5k/minute,10 requests/day"))
    with opened() as client:
        response = client.post("/v1/chat/completions", json=CHAT, headers=key)
        listed = client.get("/v1/models", headers=key)
    total = response.json()["usage"]["total_tokens"]
    assert response.json()["usage"]["completion_tokens"] == 2
    assert response.headers["x-ratelimit-limit-tokens"] == "1000"
    assert remaining(response) == remaining(listed) == 1000 - total
    assert remaining(response, "requests") == remaining(listed, "requests") == 9
    assert 0 < int(response.headers["x-ratelimit-reset-tokens"].removesuffix("s")) <= 86_400


@pytest.mark.parametrize("stream", [False, True])
def test_all_choices_are_charged_and_their_prompt_once(opened: Open, project: Project, stream: bool) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day"))
    engine = ScriptedEngine(ANSWER)
    with opened(engine) as client:
        client.post("/v1/chat/completions", json=CHAT | {"n": 3, "stream": stream}, headers=key).raise_for_status()
        prompt = len(engine.requests[0].prompt_ids)
        assert wait_for(lambda: used(project) == prompt + 3 * 2)
        body = {"model": "base", "prompt": [[5, 6, 7], [8, 9]], "n": 2, "max_tokens": 50, "stream": stream}
        client.post("/v1/completions", json=body, headers=key).raise_for_status()
        assert wait_for(lambda: used(project) == prompt + 3 * 2 + 5 + 4 * 2)


def test_choices_that_a_budget_does_not_cover_together_are_refused_before_any_begins(
    opened: Open, project: Project
) -> None:
    key = bearer(make_key(project, "base", budgets="160/day"))
    engine = ScriptedEngine(ANSWER)
    with opened(engine) as client:
        assert client.post("/v1/chat/completions", json=CHAT | {"n": 3}, headers=key).status_code == 400
        assert not engine.requests
        assert client.post("/v1/chat/completions", json=CHAT | {"n": 2}, headers=key).status_code == 200


def test_a_stream_sets_aside_what_it_may_take_and_gives_back_the_rest(opened: Open, project: Project) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day"))
    streamed = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    with opened() as client:
        response = client.post("/v1/chat/completions", json=streamed, headers=key)
        after = client.get("/v1/models", headers=key)
    usage = json.loads(response.text.strip().split("\n\n")[-2].removeprefix("data: "))["usage"]
    assert remaining(response) == 1000 - usage["prompt_tokens"] - CHAT["max_tokens"]
    assert remaining(after) == 1000 - usage["total_tokens"]


def test_whoever_leaves_in_mid_stream_pays_for_what_was_generated(opened: Open, project: Project) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day"))
    engine = ScriptedEngine(ENDLESS, pause=0.005)
    with opened(engine) as client:
        with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}, headers=key) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            set_aside = 1000 - remaining(response)
            assert used(project) == set_aside
        assert wait_for(lambda: used(project) < set_aside)
        assert set_aside - CHAT["max_tokens"] < used(project)


class SilentEngine(ScriptedEngine):
    """Takes a prompt, and never gets to a first token."""

    async def generate(self, request: Request) -> AsyncGenerator[Token]:
        self.requests.append(request)
        await asyncio.sleep(60)
        yield Token(40)


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_leaves_before_the_first_token_pays_for_the_prompt(
    opened: Open, project: Project, stream: bool
) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day"))
    engine = SilentEngine([])
    with opened(engine) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=CHAT | {"stream": stream}, headers=key, timeout=0.5)
        assert wait_for(lambda: used(project) == len(engine.requests[0].prompt_ids))


@pytest.mark.parametrize(
    ("script", "generated"),
    [([BusyError("full")], None), ([RuntimeError("broken")], None), ([Token(40), RuntimeError("broken")], 1)],
)
def test_what_fails_before_its_first_token_costs_nothing(
    opened: Open, project: Project, script: list[Token | Exception], generated: int | None
) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day"))
    engine = ScriptedEngine(script)
    with opened(engine) as client:
        assert client.post("/api/infer/base", json=QUERY, headers=key).status_code in (429, 500)
        cost = 0 if generated is None else len(engine.requests[0].prompt_ids) + generated
        assert used(project) == cost


def test_a_budget_that_is_used_up_says_when_to_come_back(opened: Open, project: Project) -> None:
    key = bearer(make_key(project, "base", budgets="1 requests/day"))
    with opened() as client:
        assert client.post("/api/infer/base", json=QUERY, headers=key).status_code == 200
        response = client.post("/api/infer/base", json=QUERY, headers=key)
        assert client.get("/v1/models", headers=key).status_code == 200
    assert response.status_code == 429
    midnight = 86_400 - time.time() % 86_400
    assert abs(int(response.headers["retry-after"]) - midnight) < 5
    assert response.headers["x-ratelimit-reset-requests"] == response.headers["retry-after"] + "s"
    assert remaining(response, "requests") == 0
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


def test_many_at_once_get_no_more_than_the_budget_has(opened: Open, project: Project) -> None:
    engine = ScriptedEngine(ANSWER, pause=0.5)
    with opened(engine) as client:
        client.post("/api/infer/base", json=QUERY).raise_for_status()
        each = len(engine.requests[0].prompt_ids) + QUERY["max_tokens"]
        key = bearer(make_key(project, "base", budgets=f"{2 * each + 10}/day"))
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(client.post, "/api/infer/base", json=QUERY, headers=key) for _ in range(8)]
        statuses = sorted(asked.result().status_code for asked in asking)
    assert statuses == [200, 200] + [429] * 6
    assert used(project) == 2 * (each - QUERY["max_tokens"] + 2)


def test_a_request_beyond_the_whole_budget_is_told_so_and_not_to_wait(opened: Open, project: Project) -> None:
    key = bearer(make_key(project, "base", budgets="40/day"))
    with opened() as client:
        response = client.post("/api/infer/base", json=QUERY, headers=key)
    assert response.status_code == 400
    assert "retry-after" not in response.headers
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("request_exceeds_budget", "max_tokens")


def test_nobody_is_let_in_while_the_registry_cannot_be_read(opened: Open, project: Project) -> None:
    key = bearer(make_key(project, "base"))
    with opened() as client:
        (project.root / "quintet.db").write_bytes(b"no database any more " * 400)
        assert client.post("/api/infer/base", json=QUERY, headers=key).status_code == 503
        assert client.get("/v1/models").status_code in (401, 503)


def test_a_locked_registry_holds_up_only_those_whose_budgets_it_keeps(
    opened: Open, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_SQLITE_COUNTS", ("PRAGMA busy_timeout = 100",))
    limited, free = bearer(make_key(project, "base", budgets="1k/day")), bearer(make_key(project, "base"))
    with opened() as client, closing(sqlite3.connect(project.root / "quintet.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        response = client.post("/api/infer/base", json=QUERY, headers=limited)
        assert client.post("/api/infer/base", json=QUERY, headers=free).status_code == 200
        other.execute("ROLLBACK")
        assert client.post("/api/infer/base", json=QUERY, headers=limited).status_code == 200
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "registry_unreachable"


def test_a_server_that_stops_gives_back_what_it_had_set_aside(project: Project, serve: Serve) -> None:
    key = bearer(make_key(project, "base", budgets="1k/day"))
    body = CHAT | {"stream": True, "max_tokens": 200}
    with ExitStack() as client:
        with serve(create_app(project, ScriptedEngine(ENDLESS, pause=0.2))) as url:
            stream = httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=key)
            response = client.enter_context(stream)
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            assert used(project) == 1000 - remaining(response)
        assert used(project) < 1000 - remaining(response)


def test_the_openai_client_understands_every_refusal(project: Project, serve: Serve) -> None:
    limited, admin = make_key(project, "base", budgets="1 requests/day"), make_key(project, roles=("admin",))
    with serve(create_app(project, ScriptedEngine(ANSWER))) as url:

        def chat(key: str, model: str = "base") -> str | None:
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                message: Any = {"role": "user", "content": "Hello?"}
                return client.chat.completions.create(model=model, messages=[message]).choices[0].message.content

        with pytest.raises(openai.AuthenticationError, match="expected a valid key"):
            chat("none")
        with pytest.raises(openai.PermissionDeniedError, match="'ask'"):
            chat(admin)
        assert chat(limited)
        with pytest.raises(openai.RateLimitError, match="1 requests/day"):
            chat(limited)


def test_a_page_of_a_named_origin_reads_what_is_left(project: Project, serve: Serve) -> None:
    origin = {"Origin": "https://chat.example"}
    app = create_app(with_serving(project, cors_origins=(origin["Origin"],)), ScriptedEngine(ANSWER))
    key = bearer(make_key(project, "base", budgets="1k/day"))
    with serve(app) as url:
        preflight = {
            **origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert httpx.options(f"{url}/api/infer/base", headers=preflight).status_code == 200
        answered = httpx.post(f"{url}/api/infer/base", json=QUERY, headers=origin | key)
        refused = httpx.post(f"{url}/api/infer/base", json=QUERY, headers=origin)
    assert "x-ratelimit-remaining-tokens" in answered.headers["access-control-expose-headers"]
    assert refused.headers["access-control-allow-origin"] == origin["Origin"]


def test_keys_are_in_no_log_and_no_answer(opened: Open, project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made, key = create_key(project, departments=["base"], budgets=[parse_budget("1k/day")])
    sent = [bearer(key), {"X-API-Key": key}]
    with opened(ScriptedEngine([RuntimeError("broken")])) as client:
        answers = [client.post("/api/infer/base", json=QUERY, headers=headers) for headers in sent]
        revoke_key(project, made.id)
        answers += [client.get("/v1/models", headers=bearer(key))]
    assert [answer.status_code for answer in answers] == [500, 500, 401]
    assert "unexpected error" in caplog.text
    ours = [record for record in caplog.records if not record.name.startswith("http")]
    logged = "\n".join(logging.Formatter().format(record) for record in ours)
    for text_ in (logged, *(answer.text for answer in answers)):
        assert key not in text_
        assert key.split("_")[2] not in text_
