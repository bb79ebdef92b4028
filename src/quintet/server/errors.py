"""Errors to responses, all of one shape: OpenAI's error object.

A client never sees a traceback, and the log never sees a prompt.
"""

import json
import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quintet.errors import (
    BudgetError,
    BusyError,
    KeyRequiredError,
    ProviderError,
    QuintetError,
    SlowClientError,
    StoppingError,
    TooLargeError,
)
from quintet.server.disconnect import ClientGoneError
from quintet.serving.request_record import note_problem

logger = logging.getLogger("quintet.server")

RETRY_AFTER_SECONDS = 1
CLIENT_CLOSED_REQUEST = 499
CLOSE = {"Connection": "close"}

# What pydantic calls a problem → OpenAI's code for it; everything else is an invalid value.
CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "unsupported": "unsupported_parameter",
    "json_invalid": "invalid_json",
}


def error_body(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """Return OpenAI's error object."""
    kinds = {429: "rate_limit_error"}
    kind = "server_error" if status >= 500 else kinds.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return status and error object of what went wrong, and log it when it is the server's fault."""
    if isinstance(error, QuintetError):
        note_problem(error.code)
        if error.status >= 500 and not isinstance(error, BusyError):
            logger.error("%s", error)
        return error.status, error_body(str(error), error.status, error.code, error.param)
    note_problem("internal_error")
    reference = secrets.token_hex(6)
    logger.error("unexpected error %s", reference, exc_info=error)
    message = f"something went wrong on the server; its log says more under {reference}"
    return 500, error_body(message, 500, "internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Make every refusal of the application answer with an error object."""
    app.add_exception_handler(QuintetError, _on_quintet_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientGoneError, _on_client_gone)


class UnexpectedErrors:
    """The outermost guard: whatever no handler knows becomes a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            response = refuse(error)
            if not started:
                await response(scope, receive, send)


def refuse(error: Exception) -> Response:
    """Return the response that tells of what went wrong, and of what to do, where a header says so."""
    status, body = describe(error)
    return JSONResponse(body, status, _headers(error))


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case KeyRequiredError():
            return {"WWW-Authenticate": 'Bearer realm="quintet"'}
        case BudgetError(retry_after=seconds) | ProviderError(retry_after=int() | float() as seconds):
            return {"Retry-After": str(math.ceil(seconds))}
        case StoppingError():
            return {"Retry-After": str(error.retry_after), **CLOSE}
        case BusyError():
            return {"Retry-After": str(error.retry_after or RETRY_AFTER_SECONDS)}
        case TooLargeError() | SlowClientError():
            return CLOSE
    return {}


async def _on_quintet_error(_: Request, error: Exception) -> Response:
    return refuse(error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  Starlette types handlers for any error
    problems = error.errors()
    message = "; ".join(_explain(problem) for problem in problems)
    first = problems[0]
    status = 400 if request.url.path.startswith("/v1/") else 422
    code = CODES.get(first["type"], "invalid_value")
    note_problem(code)
    body = error_body(message, status, code, _field(first["loc"]))
    return JSONResponse(body, status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    path = _printable(request.url.path)
    messages = {
        400: "the body cannot be read: it must be JSON, in UTF-8 and not nested too deeply",
        404: f"there is no {path}; GET / lists what there is",
        405: f"{path} does not answer {request.method}; GET / lists what there is",
    }
    codes = {404: "not_found", 405: "method_not_allowed"}
    status = error.status_code
    code = codes.get(status, "bad_request")
    note_problem(code)
    body = error_body(messages.get(status, str(error.detail)), status, code)
    return JSONResponse(body, status, error.headers)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _explain(problem: Mapping[str, Any]) -> str:
    """Return the field, what was expected of it, and what was found."""
    field = _field(problem["loc"])
    match problem["type"]:
        case "json_invalid":
            at = problem["loc"][-1]
            return f"the body is not valid JSON at character {at}: {problem['ctx']['error']}"
        case "missing" if field is None:
            return "the body is missing; send a JSON object"
        case "missing":
            return f"{field}: this field is required and missing"
        case "extra_forbidden":
            return f"{field}: this field is unknown"
        case "model_attributes_type" if field is None:
            return "the body must be a JSON object, sent with Content-Type: application/json"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{field or 'the body'}: {message[:1].lower()}{message[1:]}, found {_show(problem['input'])}"


def _field(location: Sequence[str | int]) -> str | None:
    """Return a place in the body as in `messages[0].content`, or None for the body itself."""
    name = ""
    for step in location[1:]:
        name += f"[{step}]" if isinstance(step, int) else f".{step}"
    return _printable(name.removeprefix(".")) if name and location[0] == "body" else None


def _show(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _printable(text: str) -> str:
    # Half of a surrogate pair is valid in JSON and cannot be sent back as UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()
