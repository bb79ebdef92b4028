"""What /metrics tells: under vLLM's names, by department, to administrators alone."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from quintet.config import BASE, Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Engine, Request, SamplingParams, Token
from quintet.engine.runner.model_runner import ModelRunner
from quintet.errors import BusyError
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from quintet.serving.live_project import LiveProject
from quintet.serving.observability.metrics import Metrics
from quintet.serving.request_record import Generation
from quintet.serving.tracking import track
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine

ANSWER: list[Token | Exception] = [Token(40), Token(41), Token(42), Token(None, "stop")]
ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "quintet.json"
DOCUMENTATION = ROOT / "docs" / "observability.md"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Project:
    project = write_project(tmp_path_factory.mktemp("metrics") / "company", tiny_base)
    make_expert(project)
    return project


def send(app: FastAPI, *requests: tuple[str, str, object], key: str = "") -> list[httpx.Response]:
    async def send_all() -> list[httpx.Response]:
        headers = {"X-API-Key": key} if key else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quintet") as client:
            return [await client.request(method, path, json=body, headers=headers) for method, path, body in requests]

    return asyncio.run(send_all())


def samples(text: str) -> dict[tuple[str, str], float]:
    """Return each sample by its name and the values of its labels, but those of the base and of buckets."""
    return {
        (one.name, ",".join(value for name, value in sorted(one.labels.items()) if name != "model_name")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if "le" not in one.labels
    }


def asked(department: str = "hr") -> tuple[str, str, object]:
    return "POST", f"/api/{department}", {"query": "Hello?"}


async def generate(engine: Engine, metrics: Metrics, request: Request) -> AsyncGenerator[Token]:
    """Generate as an answer does: tracked, and observed by the metrics."""
    generation = Generation(request.department or BASE, len(request.prompt_ids))
    with track(generation, metrics) as tracker:
        async with aclosing(engine.generate(replace(request, progress=generation.progress))) as tokens:
            async for token in tokens:
                tracker.add(int(token.id is not None), token.finish_reason)
                yield token


READ: tuple[str, str, object] = ("GET", "/metrics", None)


def test_an_answer_is_counted_and_timed_for_its_department(served: Project) -> None:
    app = create_app(served, ScriptedEngine(ANSWER, pause=0.02))
    answer, metrics = send(app, asked(), READ)
    told = samples(metrics.text)
    assert told["vllm:generation_tokens_total", "hr"] == answer.json()["tokens_generated"] == 3
    assert told["vllm:prompt_tokens_total", "hr"] == told["vllm:request_prompt_tokens_sum", "hr"] > 0
    assert told["vllm:request_success_total", "hr,stop"] == 1
    assert told["vllm:time_to_first_token_seconds_count", "hr"] == 1
    assert told["vllm:inter_token_latency_seconds_count", "hr"] == 3
    assert (
        0.06 <= told["vllm:inter_token_latency_seconds_sum", "hr"] <= told["vllm:e2e_request_latency_seconds_sum", "hr"]
    )
    assert told["vllm:request_decode_time_seconds_sum", "hr"] >= 0.06
    assert told["vllm:request_time_per_output_token_seconds_sum", "hr"] >= 0.03
    assert told["vllm:generation_tokens_total", "finance"] == told["vllm:generation_tokens_total", "base"] == 0


def test_the_real_engine_says_when_it_begins_and_what_its_cache_holds(served: Project) -> None:
    async def ask() -> tuple[str, str, str]:
        engine = MixedEngine(ModelRunner(served.config.base_model, "cpu"))
        metrics = Metrics(LiveProject(served), lambda: engine.status)
        request = Request(tuple(range(3, 103)), (), SamplingParams(4, 0), department="hr")
        before = metrics.text()
        tokens = generate(engine, metrics, request)
        await anext(tokens)
        meanwhile = metrics.text()
        async for _ in tokens:
            pass
        after = metrics.text()
        await engine.close()
        return before.decode(), meanwhile.decode(), after.decode()

    before, meanwhile, after = map(samples, asyncio.run(ask()))
    assert before["vllm:kv_cache_usage_perc", ""] == after["vllm:kv_cache_usage_perc", ""] == 0
    assert 0 < meanwhile["vllm:kv_cache_usage_perc", ""] < 1
    assert meanwhile["vllm:num_requests_running", "hr"] == 1
    assert after["vllm:num_requests_running", "hr"] == 0
    assert 0 < after["vllm:request_queue_time_seconds_sum", "hr"] < after["vllm:time_to_first_token_seconds_sum", "hr"]
    parts = ("vllm:request_queue_time_seconds_sum", "vllm:request_prefill_time_seconds_sum")
    assert sum(after[name, "hr"] for name in parts) == pytest.approx(
        after["vllm:time_to_first_token_seconds_sum", "hr"]
    )


def test_who_waits_is_not_said_to_run(served: Project) -> None:
    async def ask() -> str:
        engine = ScriptedEngine([Token(40)], pause=10)
        metrics = Metrics(LiveProject(served), lambda: engine.status)
        answering = generate(engine, metrics, Request((1,), (), SamplingParams(), department="hr"))
        await anext(answering)
        waiting = asyncio.create_task(anext(generate(Stuck([]), metrics, Request((1,), (), SamplingParams()))))
        await asyncio.sleep(0)
        text = metrics.text().decode()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await answering.aclose()
        assert samples(metrics.text().decode())["vllm:request_success_total", "base,abort"] == 1
        return text

    told = samples(asyncio.run(ask()))
    assert (told["vllm:num_requests_running", "hr"], told["vllm:num_requests_waiting", "hr"]) == (1, 0)
    assert (told["vllm:num_requests_running", "base"], told["vllm:num_requests_waiting", "base"]) == (0, 1)


class Stuck(ScriptedEngine):
    """Never comes to its first token."""

    async def generate(self, request: Request):  # type: ignore[no-untyped-def]
        await asyncio.sleep(60)
        yield Token(1)


def test_rejections_are_counted_by_reason_and_by_department_once_it_is_known(served: Project) -> None:
    app = create_app(served, ScriptedEngine([BusyError("full")]))
    requests = [asked(), asked("nobody-has-this"), ("POST", "/api/hr", {"query": ""}), ("GET", "/no/such", None), READ]
    *refused, metrics = send(app, *requests)
    assert [one.status_code for one in refused] == [429, 404, 422, 404]
    told = samples(metrics.text)
    assert told["quintet_rejections_total", "hr,queue_full"] == 1
    assert told["quintet_rejections_total", ",model_not_found"] == 1
    assert told["quintet_rejections_total", ",invalid_value"] == 1
    assert told["quintet_rejections_total", ",not_found"] == 1
    assert told["vllm:request_success_total", "hr,stop"] == 0
    assert "nobody" not in metrics.text
    assert "such" not in metrics.text


def test_each_application_counts_for_itself(served: Project) -> None:
    first, second = (create_app(served, ScriptedEngine(ANSWER)) for _ in range(2))
    send(first, asked())
    assert samples(send(second, READ)[0].text)["vllm:generation_tokens_total", "hr"] == 0


def test_the_experts_that_are_loaded_are_counted(served: Project) -> None:
    before, _, after = send(create_app(served, ScriptedEngine(ANSWER)), READ, asked(), READ)
    assert samples(before.text)["quintet_experts_loaded", ""] == 0
    assert samples(after.text)["quintet_experts_loaded", ""] == 1


def test_only_an_administrator_reads_them_once_there_are_keys(
    tmp_path: Path, tiny_base: Path, make_expert: MakeExpert
) -> None:
    project = write_project(tmp_path / "company", tiny_base)
    app = create_app(project, ScriptedEngine(ANSWER))
    assert send(app, READ)[0].status_code == 200
    _, asks = create_key(project, departments=["*"])
    _, administers = create_key(project, roles=["admin"])
    assert send(app, READ)[0].status_code == 401
    assert send(app, READ, key=asks)[0].status_code == 403
    assert send(app, READ, key=administers)[0].status_code == 200


def test_no_request_makes_a_series_of_its_own(served: Project) -> None:
    app = create_app(served, ScriptedEngine(ANSWER))
    send(app, asked())
    before = len(samples(send(app, READ)[0].text))
    send(app, *[asked() for _ in range(3)], ("POST", "/api/infer/hr@1", {"query": "And now?"}))
    assert len(samples(send(app, READ)[0].text)) == before


def queries(panels: list[dict[str, object]]) -> Iterator[str]:
    for panel in panels:
        for target in panel.get("targets", []):  # type: ignore[attr-defined]
            yield target["expr"]


def test_the_dashboard_asks_for_nothing_that_is_not_there(served: Project) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    _, metrics = send(create_app(served, ScriptedEngine(ANSWER)), asked(), READ)
    there = {name for name, _ in samples(metrics.text)}
    there |= set(re.findall(r"^(\S+_bucket){", metrics.text, re.MULTILINE))
    there |= set(re.findall(r"^# TYPE (\S+)", metrics.text, re.MULTILINE))  # what has not happened yet has no series
    asked_for = {
        name for query in queries(dashboard["panels"]) for name in re.findall(r"\b(?:vllm:|quintet_)\w+", query)
    }
    asked_for |= {"vllm:" + name for name in re.findall(r"vllm:(\w+)", json.dumps(dashboard["templating"]))}
    assert asked_for <= there
    assert {name for name in there if name.startswith("quintet_")} <= asked_for


def test_the_documentation_names_what_is_there_and_nothing_else(served: Project) -> None:
    families = text_string_to_metric_families(send(create_app(served, ScriptedEngine(ANSWER)), READ)[0].text)
    told = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    documented = set(re.findall(r"`((?:vllm:|quintet_)\w+)`", DOCUMENTATION.read_text("utf-8")))
    assert documented == {name for name in told if not name.startswith("process_")}
