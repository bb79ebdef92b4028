"""Tracing: each request as an OpenTelemetry trace, made of its record when it has ended.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT says where traces go; the SDK's other variables hold as they do everywhere. Knows
nothing of what is asked or said.
"""

import logging
import os
from typing import TYPE_CHECKING

from quintet import __version__
from quintet.serving.request_record import Generation, RequestRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

logger = logging.getLogger("quintet.server")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Makes the spans of each request: itself, and the queue, prefill and decode of each of its answers."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("quintet", __version__)

    def trace(self, record: RequestRecord) -> None:
        """Make the spans of a request that has ended, under the caller's own if it named one."""
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": record.trace_parent} if record.trace_parent else {}
        span = self._tracer.start_span(
            f"{record.method} {record.route or ''}".strip(),
            TraceContextTextMapPropagator().extract(carrier),
            SpanKind.SERVER,
            {name: value for name, value in _attributes(record).items() if value is not None},
            start_time=_moment(record, record.began),
        )
        if record.status >= 500 or (record.problem and record.status < 400):
            span.set_status(StatusCode.ERROR, record.problem)
        for generation in record.generations:
            self._trace_generation(span, record, generation)
        span.end(_moment(record, record.ended))

    def _trace_generation(self, parent: "Span", record: RequestRecord, generation: Generation) -> None:
        from opentelemetry.trace import set_span_in_context

        end = record.ended if generation.ended is None else generation.ended
        marks = [generation.arrived, generation.began, generation.first_token, end]
        tokens = {
            "gen_ai.usage.input_tokens": generation.prompt_tokens,
            "gen_ai.usage.output_tokens": generation.tokens,
        }
        for place, name in enumerate(("queue", "prefill", "decode")):
            start = marks[place]
            if start is None:
                return
            later = next(mark for mark in marks[place + 1 :] if mark is not None)
            span = self._tracer.start_span(
                name, set_span_in_context(parent), attributes=tokens, start_time=_moment(record, start)
            )
            span.end(_moment(record, later))

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def tracing_from_environment() -> Tracing | None:
    """Return where traces go, when the environment says so; without the SDK, say what is missing and trace nothing."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        logger.warning("%s is set, and no traces are sent: pip install 'quintet[otel]'", ENDPOINTS[0])
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "quintet")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _attributes(record: RequestRecord) -> dict[str, str | int | None]:
    return {
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "error.type": record.problem,
        "gen_ai.request.model": record.model,
        "quintet.department": record.department,
        "quintet.request_id": record.id,
        "quintet.cache": record.cache,
        "gen_ai.usage.input_tokens": record.prompt_tokens or None,
        "gen_ai.usage.output_tokens": record.tokens or None,
    }


def _moment(record: RequestRecord, monotonic: float) -> int:
    """Return a moment of the monotonic clock in Unix nanoseconds."""
    return int((record.began_at + monotonic - record.began) * 1e9)
