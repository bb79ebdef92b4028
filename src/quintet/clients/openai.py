"""A client of one OpenAI-compatible endpoint: a question's answer, or the embeddings of texts.

Knows HTTP, patience, and what to say when it fails; knows nothing of what is asked or why, and sends nothing but to
the URL it was given.
"""

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from quintet.config.endpoint import EndpointSettings, _without_query
from quintet.errors import EndpointError, UnusableAnswerError

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 120.0
TIMEOUT_S = 180.0
ANSWER_TOKENS = 4096

_THOUGHTS = re.compile(r"<think(ing)?>.*?(</think(ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
# Where the template already wrote the opening tag, an answer holds the closing one alone.
_THOUGHTS_BEFORE = re.compile(r"\A.*</think(ing)?>", re.DOTALL | re.IGNORECASE)

Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


class Endpoint:
    """A client of one endpoint; `async with` closes it."""

    def __init__(self, settings: EndpointSettings, *, sleep: Sleep = asyncio.sleep) -> None:
        import httpx

        self._settings = settings
        self._sleep = sleep
        self._optional: dict[str, Any] = {"temperature": 0, "max_tokens": ANSWER_TOKENS}
        self._http = httpx.AsyncClient(headers=settings.headers, timeout=httpx.Timeout(TIMEOUT_S, connect=10))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, system: str, prompt: str) -> str:
        """Return the model's answer as it came.

        Raises EndpointError when the endpoint cannot be used, UnusableAnswerError when this one question got none.
        """
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        while True:
            asked = dict(self._optional)
            body = {"model": self._settings.model, "messages": messages, **asked}
            response = await self._post(self._settings.chat_url, body)
            if response.status_code not in (400, 422):
                refused = None
            else:
                refused = next((name for name in asked if name in error_message(response)), None)
            if refused is None:
                break
            self._optional.pop(refused, None)  # several questions may find out at once
        self._raise_for_status(response)
        return self._content(response)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, all of one length; no text may be empty.

        Raises EndpointError when the endpoint cannot be used, UnusableAnswerError when it refuses these texts.
        """
        body = {"model": self._settings.model, "input": list(texts)}
        response = await self._post(self._settings.embeddings_url, body)
        self._raise_for_status(response)
        try:
            rows = sorted(response.json()["data"], key=lambda row: int(row["index"]))
            vectors = [[float(value) for value in row["embedding"]] for row in rows]
            wanted = len(texts)
            if len(vectors) != wanted or len({len(vector) for vector in vectors}) > 1 or not all(vectors):
                raise ValueError("another number or length of vectors")
            if not all(math.isfinite(value) for vector in vectors for value in vector):
                raise ValueError("a vector holds what is no number")
        except (ValueError, LookupError, TypeError, RecursionError):
            expected = f"JSON with data, {len(texts)} vectors of one length"
            raise self._not_of_the_protocol(response, "no embeddings", expected) from None
        return vectors

    async def _post(self, url: str, body: dict[str, Any]) -> "httpx.Response":
        """Send until there is an answer that waiting would not change."""
        import httpx

        content = as_json(body)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await self._http.post(url, content=content)
            except httpx.RequestError as error:
                if attempt == ATTEMPTS:
                    raise self._unreachable(url, error) from None
                wait = _back_off(attempt)
            else:
                if response.status_code not in (408, 429) and response.status_code < 500:
                    return response
                if attempt == ATTEMPTS:
                    raise EndpointError(
                        f"{self._said(response)}, {ATTEMPTS} times in a row; {self._settings.go_on}"
                    ) from None
                asked = retry_after(response.headers.get("retry-after"))
                if asked is not None and asked > LONGEST_WAIT_S:
                    raise EndpointError(
                        f"{self._said(response)} and asks to wait {asked:.0f} s; {self._settings.go_on}"
                    )
                wait = _back_off(attempt) if asked is None else asked
            await self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, url: str, error: "httpx.RequestError") -> EndpointError:
        import httpx

        address, shown = _without_query(url), self._settings.hide(str(error)) or type(error).__name__
        if isinstance(error, httpx.ReadTimeout):
            return UnusableAnswerError(f"{address} took longer than {TIMEOUT_S:.0f} s, {ATTEMPTS} times in a row")
        return EndpointError(f"{address} gave no answer: {shown}; see that it runs, then {self._settings.go_on}")

    def _raise_for_status(self, response: "httpx.Response") -> None:
        status, said, settings = response.status_code, self._said(response), self._settings
        if status == 200:
            return
        if status in (401, 403):
            found = "the key in" if settings.key else "no key; put one in"
            raise EndpointError(f"{said}; it was sent {found} ${settings.key_name}")
        if status == 404:
            raise EndpointError(f"{said}; see that the URL ends with /v1 and that it has a model {settings.model!r}")
        if response.is_redirect:
            place = self._settings.hide(_without_query(response.headers.get("location", "")))
            raise EndpointError(f"{said} and points to {place!r}; name that URL")
        if status in (400, 413, 422):
            raise UnusableAnswerError(said)
        raise EndpointError(f"{said}; expected 200")

    def _said(self, response: "httpx.Response") -> str:
        message = self._settings.hide(error_message(response))[:300]
        return f"{_asked(response)} answered {response.status_code}{': ' + message if message else ''}"

    def _content(self, response: "httpx.Response") -> str:
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self._not_of_the_protocol(response, "no chat completion", "JSON with choices") from None
        if not isinstance(content, str) or not content.strip():
            raise UnusableAnswerError(f"the {self._settings.role}'s answer is empty")
        return content

    def _not_of_the_protocol(self, response: "httpx.Response", what: str, expected: str) -> EndpointError:
        found = self._settings.hide(" ".join(response.text.split()))[:80]
        return EndpointError(
            f"{_asked(response)} answered {what}: expected {expected}, found {found!r}; "
            "see that the URL is an OpenAI-compatible one and ends with /v1"
        )


def without_thoughts(answer: str) -> str:
    """Return what a model said aloud: its answer without the blocks that it thought in."""
    return _THOUGHTS_BEFORE.sub("", _THOUGHTS.sub("", answer)).strip()


async def work_through(items: Iterable[T], work: Callable[[T], Awaitable[None]], in_flight: int) -> None:
    """Work on all items, at most so many at a time; the first error stops the rest and is raised as it is."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def as_json(body: dict[str, Any]) -> bytes:
    """Return a body as it is sent."""
    # Half a surrogate pair, which data files may hold, has no bytes to be sent as.
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _asked(response: "httpx.Response") -> str:
    return _without_query(str(response.request.url))


def _back_off(attempt: int) -> float:
    return float(FIRST_WAIT_S * 2 ** (attempt - 1))


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def error_message(response: "httpx.Response") -> str:
    """Return what a response says went wrong, in one line."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = response.text
    if isinstance(body, dict):
        body = body.get("error", body)
    if isinstance(body, dict):
        body = body.get("message", body)
    return " ".join(str(body).split())
