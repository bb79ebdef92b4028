"""What is refused, with which status, and what the refusal says."""

import json
import re
from typing import Any

import httpx
import pytest

from quintet.config import Project


def refusal(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize("path", ["/api/legal", "/api/infer/legal", "/api/infer/hr@7"])
def test_an_unknown_model_is_answered_with_those_there_are(api: httpx.Client, path: str) -> None:
    error = refusal(api.post(path, json={"query": "Hello?"}), 404)
    assert error["code"] == "model_not_found"
    assert "hr, finance" in error["message"]


@pytest.mark.parametrize("path", ["/api/finance", "/api/infer/finance"])
def test_a_department_without_an_expert_names_folder_and_command(
    api: httpx.Client, company: Project, path: str
) -> None:
    message = refusal(api.post(path, json={"query": "Hello?"}), 404)["message"]
    assert str(company.runs / "finance") in message
    assert "quintet train finance" in message


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("query", "", "at least 1 character"),
        ("query", " \n", "expected a question"),
        ("query", 3, "valid string"),
        ("max_tokens", 0, "greater than or equal to 1"),
        ("max_tokens", 4097, "less than or equal to 4096"),
        ("max_tokens", "12", "valid integer"),
        ("temperature", -0.1, "greater than or equal to 0"),
        ("temperature", 2.1, "less than or equal to 2"),
        ("temperature", float("nan"), ""),
        ("top_p", 0, "greater than 0"),
        ("top_p", 1.1, "less than or equal to 1"),
        ("temprature", 1, "unknown"),
        ("query", "\ud800", "unicode"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_bound(
    api: httpx.Client, field: str, value: object, bound: str
) -> None:
    body = json.dumps({"query": "Hello?"} | {field: value})
    error = refusal(api.post("/api/hr", content=body, headers={"Content-Type": "application/json"}), 422)
    assert error["param"] == field
    assert bound in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_missing_question_is_named(api: httpx.Client) -> None:
    error = refusal(api.post("/api/hr", json={}), 422)
    assert (error["param"], error["code"]) == ("query", "missing_required_parameter")


@pytest.mark.parametrize(("path", "status"), [("/api/hr", 422), ("/v1/chat/completions", 400)])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"query": ', "not valid JSON at character 10"),
        ("", "body is missing"),
        ('["query"]', "must be a JSON object"),
        (r'{"\ud800": 1}', "the body: "),
    ],
)
def test_a_body_that_is_no_json_object_is_refused_clearly(
    api: httpx.Client, path: str, status: int, body: str, says: str
) -> None:
    response = api.post(path, content=body, headers={"Content-Type": "application/json"})
    assert says in refusal(response, status)["message"]


def test_a_body_that_does_not_say_it_is_json_is_refused_with_the_header_it_lacks(api: httpx.Client) -> None:
    response = api.post("/api/hr", content=b'{"query": "Hello?"}')
    assert "Content-Type: application/json" in refusal(response, 422)["message"]


def test_a_body_that_is_not_utf8_is_refused(api: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    response = api.post("/api/hr", content=b'{"query": "\xff"}', headers=headers)
    assert "UTF-8" in refusal(response, 400)["message"]


@pytest.mark.parametrize("path", ["/api/hr", "/api/infer/base"])
def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(api: httpx.Client, path: str) -> None:
    error = refusal(api.post(path, json={"query": "z" * 3000}), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "query")
    assert re.search(r"prompt has 30\d\d tokens.* 256;", error["message"])


def test_an_unknown_path_is_not_found(api: httpx.Client) -> None:
    assert "/nowhere" in refusal(api.get("/nowhere"), 404)["message"]


def test_a_wrong_method_is_not_allowed(api: httpx.Client) -> None:
    response = api.get("/api/hr")
    refusal(response, 405)
    assert response.headers["allow"] == "POST"
