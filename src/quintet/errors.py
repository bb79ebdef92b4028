"""The one exception tree: what went wrong, as an exit code for the shell and a status for HTTP.

    QuintetError                  1   500
    ├── ConfigError               2   500   quintet.yaml is wrong
    │   └── RefusedConfigError    2   409   a running server keeps the one it has
    ├── DataError                 3   500   a row of a data file is wrong
    ├── ModelError                4   500   a base model or an expert cannot be loaded
    │   ├── UnknownModelError     4   404   no model of that name
    │   ├── NotTrainedError       4   404   a department that has no expert yet
    │   ├── NotReleasedError      4   404   a department whose experts may not answer yet
    │   ├── MissingFilesError     4   404   the model is known, its files are gone
    │   ├── NoRouterError         4   404   no router was trained, so that departments must be named
    │   └── EngineStoppedError    4   503   the engine was closed, or failed
    ├── TrainingError             7   500   a run went wrong
    ├── GateError                 9   409   an expert that the gate blocks
    │   └── UnprovenError         9   409   one that was not measured as the gate wants it now
    ├── EndpointError             1   502   a model elsewhere, such as a teacher or a judge, cannot be used
    │   ├── UnusableAnswerError   1   502   it cannot be used for one question; others may do
    │   └── ProviderError         1   502   one that answers for a department failed
    │       ├── ProviderBusyError 1   503   it takes no requests now
    │       └── ProviderSlowError 1   504   it took too long
    ├── ExportError              10   500   an expert cannot be exported, or came out as another
    ├── RequestError              5   400   a request cannot be served as it stands
    │   ├── TooLargeError         5   413   its body is too long
    │   └── SlowClientError       5   408   its body did not come within its time
    ├── UnknownRequestError       1   404   no answer to a request of that id is known
    ├── NoConversationError       1   404   the key has no conversation of that id
    ├── KeyRequiredError          1   401   no key, or one that opens nothing
    ├── RoleError                 1   403   a key without the role that this takes
    ├── OriginError               1   403   a web page of an origin that may not ask
    ├── BudgetError               1   429   a key has used up what it may use for now
    ├── BusyError                 6   429   the queue is full
    │   ├── DeadlineError         6   503   the answer was not ready within its time
    │   └── StoppingError         6   503   the server is ending
    └── RegistryError             8   500   the registry refuses what it was asked to do
        ├── ReleaseError          8   409   a release, or a way back, that there cannot be
        └── UnreachableError      8   503   the registry's database or object store does not answer

Every message says what was expected, what was found, and the fix.
"""

from pathlib import Path


class QuintetError(Exception):
    """Base of every error that a user may cause or mend."""

    exit_code = 1
    status = 500
    code = "internal_error"
    param: str | None = None


class ConfigError(QuintetError):
    """The configuration cannot be used."""

    exit_code = 2
    code = "config_error"


class RefusedConfigError(ConfigError):
    """A running server was told to read a configuration that cannot be used; it keeps the one it has."""

    status = 409
    code = "config_refused"

    def __init__(self, problems: str) -> None:
        super().__init__(
            f"nothing is changed, since quintet.yaml cannot be used; mend it and reload again:\n{problems}"
        )


class DataError(QuintetError):
    """Rows of a data file were refused; `problems` holds one line for each, the message the first 20."""

    exit_code = 3
    code = "data_error"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        rest = len(problems) - 20
        more = [f"... and {rest} more problems of this kind"] if rest > 0 else []
        super().__init__("\n".join(problems[:20] + more))


class ModelError(QuintetError):
    """A base model or an expert cannot be used."""

    exit_code = 4
    code = "model_error"


class UnknownModelError(ModelError):
    """No model has the name asked for."""

    status = 404
    code = "model_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no model named {name!r}; there are: {', '.join(known) or 'none'}")


class NotTrainedError(ModelError):
    """A department has no expert yet."""

    status = 404
    code = "model_not_trained"

    def __init__(self, department: str, folder: Path) -> None:
        super().__init__(
            f"department {department!r} has no expert yet: there is none in {folder}; "
            f"train one: quintet train {department}"
        )


class NotReleasedError(ModelError):
    """A department has experts, and none of them is released."""

    status = 404
    code = "model_not_released"

    def __init__(self, department: str, newest: int) -> None:
        super().__init__(
            f"department {department!r} has experts, and none of them is released; the newest is "
            f"{department}@{newest}: quintet release {department} {newest}"
        )


class MissingFilesError(ModelError):
    """A model is known, but its files are gone."""

    status = 404
    code = "model_files_missing"

    def __init__(self, name: str, path: Path, fix: str) -> None:
        super().__init__(f"the files of {name!r} are gone: {path} does not exist; {fix}")


class NoRouterError(ModelError):
    """No router can be used; `problem` says why."""

    status = 404
    code = "router_not_trained"

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; train one: quintet router train; or name the department")


class EngineStoppedError(ModelError):
    """The engine was closed, or its loop failed."""

    status = 503
    code = "engine_stopped"

    def __init__(self) -> None:
        super().__init__(
            "the engine has stopped before it could answer; ask again when it is back, or start the server again "
            "(if the engine failed, the log says why)"
        )


class TrainingError(QuintetError):
    """A run did not lead to an expert."""

    exit_code = 7
    code = "training_error"


class GateError(QuintetError):
    """The gate blocks an expert; the message names each rule that does, with both numbers."""

    exit_code = 9
    status = 409
    code = "gate_error"

    def __init__(self, name: str, rules: list[str]) -> None:
        department, _, version = name.partition("@")
        lines = "\n".join(f"  {rule}" for rule in rules)
        super().__init__(
            f"the gate blocks {name}:\n{lines}\n"
            f'to release it all the same: quintet release {department} {version} --force --reason "..."'
        )


class UnprovenError(GateError):
    """An expert that the gate has not seen as things stand now: it must be measured first, where that can be done."""

    code = "not_measured"

    def __init__(self, name: str, why: str) -> None:
        QuintetError.__init__(self, f"{why}; measure it, where its files are: quintet evaluate {name}")


class EndpointError(QuintetError):
    """A model behind somebody's endpoint cannot be used."""

    status = 502
    code = "endpoint_error"


class UnusableAnswerError(EndpointError):
    """The endpoint cannot be used for one question; others may do."""


class ProviderError(EndpointError):
    """A provider failed to answer for a department; `retry_after` is in seconds, where it is known."""

    code = "provider_failed"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderBusyError(ProviderError):
    """A provider takes no requests now."""

    status = 503
    code = "provider_unavailable"


class ProviderSlowError(ProviderError):
    """A provider took too long."""

    status = 504
    code = "provider_timeout"


class ExportError(QuintetError):
    """An expert cannot be written in the format asked for, or what was written is not what is served."""

    exit_code = 10
    code = "export_error"


class RequestError(QuintetError):
    """A request cannot be served as it stands; `param` names the field to change."""

    exit_code = 5
    status = 400
    code = "bad_request"

    def __init__(self, message: str, *, param: str | None = None, code: str = code) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class TooLargeError(RequestError):
    """The body of a request is longer than the server takes; both are in bytes."""

    status = 413

    def __init__(self, length: int, most: int) -> None:
        super().__init__(
            f"the body has {length:,} bytes or more, and may have {most:,} (serving.max_body); send less",
            code="body_too_large",
        )


class SlowClientError(RequestError):
    """The body of a request did not come within its time."""

    status = 408

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the body did not come within {seconds:g} s (serving.client_seconds); send it faster", code="slow_client"
        )


class UnknownRequestError(QuintetError):
    """No answer to a request of that id is known, or none that the key may ask about: the two look the same."""

    status = 404
    code = "request_not_found"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"no answer to a request {request_id!r} is known; expected the X-Request-Id of an answer that was given "
            "lately, or is kept (keep_requests)"
        )


class NoConversationError(QuintetError):
    """The key has no conversation of that id; whether another key has one is not said."""

    status = 404
    code = "conversation_not_found"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(
            f"there is no conversation {conversation_id!r}; expected one of those that GET /api/conversations lists"
        )


class KeyRequiredError(QuintetError):
    """A request came without a key that opens anything; it does not tell why, so that nobody learns by trying."""

    status = 401
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "expected a valid key, as in 'Authorization: Bearer qk_...' or 'X-API-Key: qk_...'; found none, or one "
            "that is wrong, expired or revoked; ask whoever runs this server for one"
        )


class RoleError(QuintetError):
    """A key lacks the role that an act takes."""

    status = 403
    code = "insufficient_permissions"

    def __init__(self, role: str) -> None:
        super().__init__(f"this takes a key with the role {role!r}; make one: quintet keys create --role {role}")


class OriginError(QuintetError):
    """A web page asks, and its origin is not one that may."""

    status = 403
    code = "origin_not_allowed"

    def __init__(self) -> None:
        super().__init__(
            "this takes no requests of web pages of this origin; name it under serving.cors_origins to allow it"
        )


class BudgetError(QuintetError):
    """A key has used up what it may use for now; `retry_after` is in seconds."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BusyError(QuintetError):
    """More requests wait than the queue may hold; `retry_after` is in seconds, once it is known."""

    exit_code = 6
    status = 429
    code = "queue_full"
    retry_after: int | None = None


class DeadlineError(BusyError):
    """An answer was not ready within the time it was given."""

    status = 503
    code = "deadline_exceeded"


class StoppingError(BusyError):
    """The server is ending, and takes nothing new."""

    status = 503
    code = "server_stopping"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("this server is ending; ask again, and another answers, or this one when it is back")


class RegistryError(QuintetError):
    """The registry refuses what it was asked to do."""

    exit_code = 8
    code = "registry_error"


class ReleaseError(RegistryError):
    """A version that cannot be released so, or no release to go back to."""

    status = 409
    code = "release_refused"


class UnreachableError(RegistryError):
    """The registry's database or its object store does not answer."""

    status = 503
    code = "registry_unreachable"
