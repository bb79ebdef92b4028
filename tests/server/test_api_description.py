"""Whatever is sent, the server answers as its OpenAPI description says, and never fails: requests made up from it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from quintet.config import Project
from quintet.router.router import router_path
from tests.server.routers import save_router

load_all_checks()
HELD = CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)
LIMITS = ("max_tokens", "max_completion_tokens")
LIMITS = ("max_tokens", "max_completion_tokens")
UNKNOWN = {
    "POST /api/feedback",
    "GET /api/conversations",
    "DELETE /api/conversations",
    "POST /api/conversations/search",
    "GET /api/conversations/{conversation}",
    "PUT /api/conversations/{conversation}",
    "DELETE /api/conversations/{conversation}",
    "GET /api/experts/{name}",
    "POST /admin/releases",
    "POST /admin/rollbacks",
    "POST /api/files/read",
    "POST /api/speech/read",
}
ROUTES = {
    "GET /v1/models/{model}",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /api/ask",
    "POST /api/infer/{model}",
    "POST /api/{department}",
}


def aimed(case: Any, model: str | None, limit: int) -> Any:
    """Let most cases reach a model, and none of them take long."""
    if model and isinstance(case.body, dict) and "model" in case.body:
        case.body = case.body | {"model": model}
    if model and case.path_parameters:
        case.path_parameters = dict.fromkeys(case.path_parameters, model)
    if isinstance(case.body, dict):
        case.body = {"max_tokens": limit} | case.body
        case.body |= {name: limit for name in LIMITS if isinstance(case.body.get(name), int)}
        if model in ("hr", "auto") and isinstance(turns := case.body.get("messages"), list):
            case.body["messages"] = [without_calls(turn) if isinstance(turn, dict) else turn for turn in turns]
    return case


def without_calls(turn: dict[str, Any]) -> dict[str, Any]:
    """Take out of a turn what the base's template has no place for."""
    plain = {name: value for name, value in turn.items() if name != "tool_calls"}
    return plain | ({"role": "user"} if turn.get("role") == "tool" else {}) | {"content": turn.get("content") or "Hi"}


def check(operation: Any, examples: int) -> Counter[int]:
    """Send made-up requests to an operation; return how many were answered with each status."""
    statuses: Counter[int] = Counter()
    models = st.sampled_from(["base", "hr", "hr", "auto", None])

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), model=models, limit=st.integers(1, 4))
    def send(case: Any, model: str | None, limit: int) -> None:
        response = aimed(case, model, limit).call_and_validate(checks=HELD)
        statuses[response.status_code] += 1

    send()
    return statuses


@pytest.fixture(scope="module")
def routed_address(address: str, company: Project) -> Iterator[str]:
    """The company's server, while it has a router."""
    save_router(company, hr="leave")
    yield address
    router_path(company).unlink()


def operations(address: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        yield result.ok()


def test_a_few_hundred_requests_are_answered_as_described(routed_address: str) -> None:
    found = {operation.label: check(operation, 40) for operation in operations(routed_address)}
    assert found.keys() >= ROUTES
    assert sum(map(Counter.total, found.values())) >= 200
    # Made-up ids are of no answer that was given, made-up names of no version, and conversations are kept by key.
    refused = {label for label, statuses in found.items() if not statuses[200]}
    assert refused <= UNKNOWN, str(found)


@pytest.mark.slow
def test_two_thousand_requests_are_answered_as_described(routed_address: str) -> None:
    found = {operation.label: check(operation, 500) for operation in operations(routed_address)}
    print(found)
    assert sum(map(Counter.total, found.values())) >= 2000
