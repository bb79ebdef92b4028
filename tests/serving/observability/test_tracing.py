"""A request as a trace: itself, and under it the queue, the prompt and the answer, one after the other."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.interface import Token
from quintet.engine.runner.model_runner import ModelRunner
from quintet.errors import ModelError
from quintet.server.app import create_app
from quintet.serving.observability.tracing import Tracing, tracing_from_environment
from tests.conftest import write_project
from tests.served import MakeExpert, ScriptedEngine

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
QUESTION = "my salary is 93000"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_expert: MakeExpert) -> Project:
    project = write_project(tmp_path_factory.mktemp("traced") / "company", tiny_base)
    make_expert(project)
    return project


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


def traced(
    project: Project, engine: MixedEngine | ScriptedEngine, exporter: InMemorySpanExporter
) -> dict[str, ReadableSpan]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(project, engine, tracing=Tracing(provider))

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quintet") as client:
            body = {"query": QUESTION, "max_tokens": 3, "temperature": 0}
            await client.post("/api/hr", json=body, headers={"traceparent": PARENT, "x-request-id": "a1"})

    asyncio.run(ask())
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_a_span_with_its_phases_under_it(served: Project, exporter: InMemorySpanExporter) -> None:
    engine = MixedEngine(ModelRunner(served.config.base_model, "cpu"))
    spans = traced(served, engine, exporter)
    asyncio.run(engine.close())
    request = spans.pop("POST /api/{department}")
    assert request.context is not None
    assert list(spans) == ["queue", "prefill", "decode"]
    moments = []
    for span in spans.values():
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        moments += [span.start_time, span.end_time]
    assert moments == sorted(moments)  # type: ignore[type-var]
    assert request.start_time <= moments[0] < moments[-1] <= request.end_time  # type: ignore[operator]


def test_it_belongs_to_the_trace_of_its_caller(served: Project, exporter: InMemorySpanExporter) -> None:
    spans = traced(served, ScriptedEngine([Token(40), Token(None, "stop")]), exporter)
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {PARENT.split("-")[1]}
    parent = spans["POST /api/{department}"].parent
    assert parent is not None
    assert f"{parent.span_id:016x}" == PARENT.split("-")[2]


def test_it_says_who_answered_and_never_what(served: Project, exporter: InMemorySpanExporter) -> None:
    spans = traced(served, ScriptedEngine([Token(40), Token(None, "stop")]), exporter)
    attributes = dict(spans["POST /api/{department}"].attributes or {})
    assert attributes["gen_ai.request.model"] == "hr@1"
    assert attributes["quintet.request_id"] == "a1"
    assert attributes["http.response.status_code"] == 200
    assert attributes["gen_ai.usage.output_tokens"] == 1
    assert QUESTION not in "".join(span.to_json() for span in spans.values())


def test_a_failure_is_an_error(served: Project, exporter: InMemorySpanExporter) -> None:
    spans = traced(served, ScriptedEngine([ModelError("no such layer")]), exporter)
    request = spans["POST /api/{department}"]
    assert not request.status.is_ok
    assert (request.attributes or {})["error.type"] == "model_error"


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert tracing_from_environment() is None


def test_with_an_endpoint_traces_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    tracing = tracing_from_environment()
    assert tracing is not None
    tracing.close()
