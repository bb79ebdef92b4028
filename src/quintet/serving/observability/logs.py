"""Access log and log format: text or JSON lines, each with its request's id. Never prompts, answers or keys."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from quintet.config import LogFormat
from quintet.serving.request_record import Generation, RequestRecord, current_request

logger = logging.getLogger("quintet.requests")


def configure_logs(style: LogFormat) -> None:
    """Write what this process logs to standard error: of others than Quintet, only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("quintet").setLevel(logging.INFO)


def log_request(record: RequestRecord) -> None:
    """Write the one line of a request."""
    if logger.isEnabledFor(logging.INFO):
        fields = describe_request(record)
        words = [record.method, record.route or "(no such route)", str(record.status), f"{fields['duration_ms']:g} ms"]
        words += [word for word in (record.model, record.problem) if word]
        if record.generations:
            words.append(f"{record.prompt_tokens}+{record.tokens} tokens")
        if record.cache == "hit":
            words.append("cached")
        logger.info(" ".join(words), extra={"request": fields})


def describe_request(record: RequestRecord) -> dict[str, Any]:
    """Return what is logged of a request: times in milliseconds, those to a token from the request's arrival."""
    asked = bool(record.generations)
    return {
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "error": record.problem,
        "department": record.department,
        "model": record.model,
        "duration_ms": _milliseconds(record.ended - record.began),
        "queue_ms": _most(record, lambda one: None if one.began is None else one.began - one.arrived),
        "first_token_ms": _most(record, lambda one: None if one.first_token is None else one.first_token - one.arrived),
        "prompt_tokens": record.prompt_tokens if asked else None,
        "completion_tokens": record.tokens if asked else None,
        "cache": record.cache,
    }


def _most(record: RequestRecord, seconds: Callable[[Generation], float | None]) -> float | None:
    """Return the longest time that any of its answers took for something."""
    times = [time for one in record.generations if (time := seconds(one)) is not None]
    return _milliseconds(max(times)) if times else None


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


class JsonLines(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        values: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := current_request():
            values["request_id"] = request.id
        values |= getattr(record, "request", {})
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


class TextLines(logging.Formatter):
    """Time, level, what happened, and the request's id."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and under it the traceback if there is one."""
        line = f"{_time(record)} {record.levelname} {record.getMessage()}"
        if request := current_request():
            line += f" [{request.id}]"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
