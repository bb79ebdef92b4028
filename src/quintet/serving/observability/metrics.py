"""Metrics, as Prometheus reads them. No label tells of keys, or of what is asked or said.

What vLLM measures too has vLLM's name, prefix and all, so that the dashboards, alerts and autoscalers that are made for
it read this server as well, and one panel can show both. Only what vLLM does not have begins with `quintet_`. As there,
`model_name` is the base; each series has the department beside it, which is all that a label ever takes from a request.
"""

import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from quintet.config import EXPERT, Project
from quintet.engine.interface import EngineStatus
from quintet.serving.live_project import LiveProject
from quintet.serving.request_record import Generation, RequestRecord

# vLLM's bounds, and finer ones below them: a small model answers before the first of vLLM's.
FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0,
)  # fmt: skip
TOKEN_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
REQUEST_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0,
    60.0, 120.0, 240.0, 480.0, 960.0,
)  # fmt: skip
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
LABELS = ("model_name", "department")
Labels = tuple[str, str]

# When a series was first seen is one more series for each, and no dashboard asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one application, in a registry of its own; `status` is asked when they are read."""

    def __init__(self, current: LiveProject, status: Callable[[], EngineStatus]) -> None:
        self.registry = CollectorRegistry()
        self._current = current
        self._model = current.project.config.base_model
        self._live: dict[int, Generation] = {}
        self._tokens = _EachToken()
        self.registry.register(self._tokens)
        self._define()
        self.registry.register(_EngineState(current, status, self._live))
        ProcessCollector(registry=self.registry)

    def _define(self) -> None:
        histogram, counter = self._histogram, self._counter
        self._first_token = histogram(
            "vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", FIRST_TOKEN_SECONDS
        )
        self._per_token = histogram(
            "vllm:request_time_per_output_token_seconds", "An answer's mean time for a token.", TOKEN_SECONDS
        )
        self._whole = histogram(
            "vllm:e2e_request_latency_seconds", "From a request's arrival to its end.", REQUEST_SECONDS
        )
        self._queued = histogram(
            "vllm:request_queue_time_seconds", "From a request's arrival to its first step.", REQUEST_SECONDS
        )
        self._prefill = histogram(
            "vllm:request_prefill_time_seconds", "From an answer's first step to its first token.", REQUEST_SECONDS
        )
        self._decode = histogram(
            "vllm:request_decode_time_seconds", "From an answer's first token to its last.", REQUEST_SECONDS
        )
        self._prompt_of_request = histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", TOKENS)
        self._tokens_of_request = histogram("vllm:request_generation_tokens", "Tokens of an answer.", TOKENS)
        self._prompt_tokens = counter("vllm:prompt_tokens", "Tokens of prompts that were computed or found computed.")
        self._finished = counter("vllm:request_success", "Answers, by why they ended.", "finished_reason")
        self._looked_up = counter("quintet_response_cache_queries", "Answers looked up in the response cache.")
        self._cached = counter("quintet_response_cache_hits", "Those of them that need not be computed.")
        self._rejections = counter("quintet_rejections", "Requests answered with an error, by its code.", "reason")

        self._provider_failures = Counter(
            "quintet_provider_failures", "Attempts of a provider that were in vain.",
            ("provider", "department", "reason"), registry=self.registry,
        )  # fmt: skip
        self._fallbacks = Counter(
            "quintet_fallbacks", "Answers that another gave, since the first in the order could not.",
            ("department", "answered_by"), registry=self.registry,
        )  # fmt: skip

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, LABELS, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*LABELS, *labels), registry=self.registry)

    def begun(self, generation: Generation) -> None:
        """Count an answer among those that wait or run."""
        self._live[id(generation)] = generation

    def token(self, generation: Generation, tokens: int, before: float | None) -> None:
        """Count tokens that came, and the time to them; those of a cached answer were not generated."""
        if generation.progress.cache == "hit":
            return
        now, labels = generation.last_token or 0.0, _labels(generation, self._model)
        self._tokens.count(labels, tokens, None if before is None else now - before)
        if before is not None:
            return
        self._first_token.labels(*labels).observe(now - generation.arrived)
        if generation.elsewhere is None:
            self._prompt_tokens.labels(*labels).inc(generation.prompt_tokens)

    def ended(self, generation: Generation) -> None:
        """Count an answer that ended by itself, or that its client left; what failed is a rejection.

        One from the cache counts there alone: all else measures how the engine is doing.
        """
        self._live.pop(id(generation), None)
        if (outcome := generation.progress.cache) in ("hit", "miss"):
            self._looked_up.labels(self._model, generation.department).inc()
        if outcome == "hit":
            self._cached.labels(self._model, generation.department).inc()
            return
        began, first, ended = generation.began, generation.first_token, generation.ended or time.monotonic()
        labels = _labels(generation, self._model)
        if generation.elsewhere is not None and first is not None:
            self._prompt_tokens.labels(*labels).inc(generation.prompt_tokens)
            self._tokens.count(labels, generation.tokens, None)
        if generation.reason in (None, "error"):
            return
        self._finished.labels(*labels, generation.reason).inc()
        self._whole.labels(*labels).observe(ended - generation.arrived)
        self._queued.labels(*labels).observe((ended if began is None else began) - generation.arrived)
        if began is None or first is None:
            return
        last = generation.last_token or first
        self._prefill.labels(*labels).observe(first - began)
        self._decode.labels(*labels).observe(last - first)
        if generation.tokens > 1:
            self._per_token.labels(*labels).observe((last - first) / (generation.tokens - 1))
        self._prompt_of_request.labels(*labels).observe(generation.prompt_tokens)
        self._tokens_of_request.labels(*labels).observe(generation.tokens)

    def count_rejection(self, record: RequestRecord) -> None:
        """Count a request that was answered with an error; its department is empty when it was refused before that."""
        if record.problem is not None:
            self._rejections.labels(record.elsewhere or self._model, record.department or "", record.problem).inc()

    def provider_failed(self, provider: str, department: str, reason: str) -> None:
        """Count an attempt of a provider that was in vain."""
        self._provider_failures.labels(provider, department, reason).inc()

    def fell_back(self, department: str, source: str) -> None:
        """Count an answer that `source` gives since those before it could not."""
        self._fallbacks.labels(department, source).inc()

    def watch_breakers(self, states: Callable[[], Mapping[str, int]]) -> None:
        """Show how each provider's breaker stands, whenever the metrics are read."""
        self.registry.register(_Breakers(states))

    def count_refusal(self, code: str) -> None:
        """Count a client that was turned away before it had made a request."""
        self._rejections.labels(self._model, "", code).inc()

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        for labels in _known(self._current.project):
            for metric in (
                self._first_token, self._per_token, self._whole, self._queued, self._prefill,
                self._decode, self._prompt_of_request, self._tokens_of_request, self._prompt_tokens, self._looked_up,
                self._cached,
            ):  # fmt: skip
                metric.labels(*labels)
            for reason in ("stop", "length", "abort"):
                self._finished.labels(*labels, reason)
            self._tokens.show_at_zero(labels)
            for reason in ("queue_full", "deadline_exceeded", "rate_limit_exceeded"):
                self._rejections.labels(*labels, reason)
        return generate_latest(self.registry)


def _known(project: Project) -> list[Labels]:
    """Return who may answer, and for which department: the base with its experts, and providers' models."""
    experts = [(project.config.base_model, name) for name in project.models if EXPERT in project.answered_by(name)]
    providers = project.config.providers
    return experts + [
        (f"{source}/{providers[source].model}", name)
        for name in project.config.departments
        for source in project.answered_by(name)
        if source != EXPERT
    ]


def _labels(generation: Generation, base: str) -> Labels:
    return generation.elsewhere or base, generation.department


class _EachToken(Collector):
    """What is counted at each token of each answer: by hand, since a metric's own counting takes six times as long.

    Counts on one thread only.
    """

    def __init__(self) -> None:
        self._tokens: dict[Labels, int] = {}
        self._gaps: dict[Labels, list[int]] = {}
        self._seconds: dict[Labels, float] = {}

    def show_at_zero(self, labels: Labels) -> None:
        """Have a model and a department that have no token yet."""
        # Not by assignment: whoever reads the numbers does so on another thread than the one that counts.
        self._seconds.setdefault(labels, 0.0)
        self._gaps.setdefault(labels, [0] * (len(TOKEN_SECONDS) + 1))
        self._tokens.setdefault(labels, 0)

    def count(self, labels: Labels, tokens: int, gap: float | None) -> None:
        """Count tokens, the end of turn being none, and the time since those before them."""
        if labels not in self._tokens:
            self.show_at_zero(labels)
        self._tokens[labels] += tokens
        if gap is not None:
            self._gaps[labels][bisect_left(TOKEN_SECONDS, gap)] += 1
            self._seconds[labels] += gap

    def collect(self) -> Iterator[Metric]:
        """Yield both metrics."""
        tokens = CounterMetricFamily("vllm:generation_tokens", "Tokens that were generated.", labels=LABELS)
        between = HistogramMetricFamily(
            "vllm:inter_token_latency_seconds", "From one token of an answer to its next.", labels=LABELS
        )
        for labels, number in list(self._tokens.items()):
            tokens.add_metric(labels, number)
            bounds = (*map(floatToGoString, TOKEN_SECONDS), "+Inf")
            buckets = list(zip(bounds, accumulate(self._gaps[labels]), strict=True))
            between.add_metric(labels, buckets, self._seconds[labels])
        yield tokens
        yield between


class _EngineState(Collector):
    """What is so at the moment of reading."""

    def __init__(self, current: LiveProject, status: Callable[[], EngineStatus], live: dict[int, Generation]) -> None:
        self._model = current.project.config.base_model
        self._current = current
        self._status = status
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, and what the engine itself counts."""
        live = [one for one in list(self._live.values()) if one.progress.cache != "hit"]
        running = Tally(_labels(one, self._model) for one in live if one.began is not None)
        waiting = Tally(_labels(one, self._model) for one in live if one.began is None)
        yield self._by_department("vllm:num_requests_running", "Requests that are being answered.", running)
        yield self._by_department("vllm:num_requests_waiting", "Requests that wait to be answered.", waiting)
        status = self._status()
        yield self._gauge(
            "vllm:kv_cache_usage_perc", "Share of the KV cache in use, from 0 to 1.", status.kv_cache_usage
        )
        yield self._gauge("quintet_experts_loaded", "Experts that the engine holds.", len(status.loaded))
        yield self._gauge("quintet_expert_memory_bytes", "Memory that they take.", status.expert_bytes)
        looked_up = status.prompt_tokens + status.reused_tokens
        yield self._counter("vllm:prefix_cache_queries", "Tokens of prompts looked up in the KV cache.", looked_up)
        yield self._counter("vllm:prefix_cache_hits", "Tokens of prompts found in it.", status.reused_tokens)
        yield self._counter("vllm:num_preemptions", "Answers that had to make room for others.", status.preemptions)
        yield self._counter("quintet_expert_loads", "Experts that were loaded.", status.loads)
        yield self._counter("quintet_expert_evictions", "Experts that left memory for others.", status.evictions)
        yield self._counter("quintet_expert_load_seconds", "Time that experts took to load.", status.load_seconds)

    def _by_department(self, name: str, text: str, counts: Tally[Labels]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=LABELS)
        for labels in dict.fromkeys([*_known(self._current.project), *counts]):
            family.add_metric(labels, counts[labels])
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=LABELS[:1])
        family.add_metric((self._model,), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=LABELS[:1])
        family.add_metric((self._model,), value)
        return family


class _Breakers(Collector):
    """Whether each provider is asked."""

    def __init__(self, states: Callable[[], Mapping[str, int]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge."""
        text = "Whether a provider is asked: 0 is yes, 1 once to try, 2 not for a while."
        family = GaugeMetricFamily("quintet_provider_breaker", text, labels=("provider",))
        for provider, state in self._states().items():
            family.add_metric((provider,), state)
        yield family
