"""Provider client: one attempt at one endpoint, with its connections and its circuit breaker."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import cache
from typing import TypeVar

import httpx
from pydantic import ValidationError

from quintet.clients.openai import as_json, error_message, retry_after
from quintet.config import ProviderConfig
from quintet.errors import RequestError
from quintet.serving.providers.circuit_breaker import CircuitBreaker
from quintet.serving.providers.errors import AttemptError, Reason, UnansweredError
from quintet.serving.providers.request import Asked
from quintet.serving.providers.sse import MOST_BYTES, EventError, read_events
from quintet.serving.providers.stream_parser import StreamChunk

Result = TypeVar("Result")
MOST_AT_ONCE = 256
"""Requests of one provider that are under way; one that hangs holds up its own, and no other's."""
ERROR_BYTES = 2**16
DONE = "[DONE]"


class AdaptedError(Exception):
    """It refused a word that it will not be sent again: send the question once more."""


class Provider:
    """One endpoint, its connections, its breaker, and what it was found to want."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self.config = config
        self.breaker = CircuitBreaker(config.break_after, config.break_for)
        self._settings = settings = config.settings()
        self._host = httpx.URL(settings.chat_url).host
        self._http = httpx.AsyncClient(
            headers=settings.headers,
            verify=_trusted(),
            timeout=httpx.Timeout(None, connect=config.connect_timeout, pool=config.connect_timeout),
            limits=httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=32),
        )
        self._unwanted: set[str] = set()

    @property
    def model(self) -> str:
        """Who answers: the provider, and the model by its name there."""
        return f"{self.name}/{self.config.model}"

    @property
    def lacks_key(self) -> bool:
        """Whether it is to be sent a key that is not there."""
        return bool(self.config.key_name) and not self._settings.key

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def chunks(self, asked: Asked, until: float) -> AsyncGenerator[StreamChunk | None]:
        """Send the question, and yield what comes, and None where it says that it is complete.

        `until` is when it must be, in the seconds of `time.monotonic`.
        Raises AttemptError, UnansweredError, RequestError for what it refuses, and AdaptedError for what to send again
        in other words.
        """
        async with self._sent(asked, until) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/json":
                yield _chunk((await self._read(response, MOST_BYTES, until)).decode("utf-8", "replace"))
                yield None
            elif kind == "text/event-stream":
                async with aclosing(read_events(self._parts(response, until))) as events:
                    async for data in events:
                        yield None if data.strip() == DONE else _chunk(data)
            else:
                raise _unreadable(f"expected text/event-stream, found {kind[:60]!r}")

    @asynccontextmanager
    async def _sent(self, asked: Asked, until: float) -> AsyncGenerator[httpx.Response]:
        """Yield the response, once its head is there and says that it is an answer."""
        response = await self._send(asked, until)
        try:
            if response.status_code != 200:
                body = await self._read(response, ERROR_BYTES, until)
                wait = response.headers.get("retry-after")
                raise self._error(
                    httpx.Response(
                        response.status_code, headers={} if wait is None else {"retry-after": wait}, content=body
                    )
                )
            with _as_failures("cut"):
                yield response
        finally:
            await response.aclose()

    async def _send(self, asked: Asked, until: float) -> httpx.Response:
        url = self._settings.chat_url if asked.route == "chat" else self._settings.text_url
        body = asked.fields | {"model": self.config.model, "stream": True, "max_tokens": asked.max_tokens}
        if asked.route == "chat" and "max_tokens" in self._unwanted:
            body["max_completion_tokens"] = body.pop("max_tokens")
        if "stream_options" not in self._unwanted:
            body["stream_options"] = {"include_usage": True}
        request = self._http.build_request("POST", url, content=as_json(body))
        limit = self.config.first_timeout
        with _as_failures("unreachable"):
            sending = self._http.send(request, stream=True)
            return await self._in_time(sending, limit, f"took longer than {limit:g} s to begin", until)

    async def _parts(self, response: httpx.Response, until: float) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; raise AttemptError when it falls silent."""
        parts, limit = response.aiter_bytes(), self.config.chunk_timeout
        while (
            part := await self._in_time(anext(parts, None), limit, f"fell silent for {limit:g} s", until)
        ) is not None:
            yield part

    async def _in_time(self, work: Awaitable[Result], limit: float, said: str, until: float) -> Result:
        try:
            async with asyncio.timeout(min(limit, until - time.monotonic())):
                return await work
        except TimeoutError:
            if time.monotonic() >= until:
                said = f"took longer than {self.config.timeout:g} s"
            raise AttemptError("timeout", said, again=True) from None

    async def _read(self, response: httpx.Response, most: int, until: float) -> bytes:
        body = b""
        async with aclosing(self._parts(response, until)) as parts:
            async for part in parts:
                body += part
                if len(body) > most:
                    break
        return body[:most]

    def _error(self, response: httpx.Response) -> Exception:
        """Return what a status other than 200 means."""
        status, message, key_name = response.status_code, error_message(response), self.config.key_name
        if status in (400, 413, 422):
            return self._adapted(message) or self._refusal(message)
        wait = retry_after(response.headers.get("retry-after"))
        said, detail = f"answered {status}", f"answered {status}"
        if status in (408, 429, 503):
            return AttemptError("busy", "takes no more requests for now", detail=detail, again=True, retry_after=wait)
        if status >= 500:
            return AttemptError("refused", said, again=True, retry_after=wait)
        if status in (401, 403):
            sent = f"the key in ${key_name}" if self._settings.key else "no key; name its variable in key_name"
            return AttemptError("refused", "does not let this server in", detail=f"{detail}; it was sent {sent}")
        if status == 404:
            detail += f"; see that its url ends with /v1, and that it has a model {self.config.model!r}"
        return AttemptError("refused", said, detail=detail)

    def _adapted(self, message: str) -> Exception | None:
        """Learn from a refusal what this model wants instead; None when it is of something else."""
        known = {"max_completion_tokens": "max_tokens", "stream_options": "stream_options"}
        unwanted = next((ours for said, ours in known.items() if said in message), None)
        if unwanted is None or unwanted in self._unwanted:
            return None
        self._unwanted.add(unwanted)
        return AdaptedError()

    def _refusal(self, message: str) -> RequestError:
        shown = self._settings.hide(message).replace(self._host, "(its address)")[:300]
        return RequestError(f"the provider {self.name!r} refuses the request: {shown}", code="provider_refused")


@cache
def _trusted() -> ssl.SSLContext:
    """Return what certificates are trusted, read once: it takes a tenth of a second."""
    return httpx.create_ssl_context()


@contextmanager
def _as_failures(reason: Reason) -> Iterator[None]:
    """Turn what httpx raises into a AttemptError for that reason, or for a better one."""
    try:
        yield
    except httpx.PoolTimeout:
        raise UnansweredError("has as many requests under way as it may have") from None
    except httpx.ConnectTimeout:
        raise AttemptError("timeout", "took too long to connect", again=True) from None
    except (EventError, httpx.DecodingError) as error:
        raise _unreadable(str(error)) from None
    except httpx.HTTPError as error:
        said = "cannot be reached" if reason == "unreachable" else "broke off"
        raise AttemptError(reason, said, detail=f"{said}: {type(error).__name__}", again=True) from None


def _chunk(data: str) -> StreamChunk:
    try:
        chunk = StreamChunk.model_validate_json(data)
    except ValidationError:
        raise _unreadable("expected JSON of OpenAI's, found something else") from None
    if chunk.error is not None:
        raise AttemptError("refused", "broke off with an error")
    return chunk


def _unreadable(detail: str) -> AttemptError:
    said = "answered with what is no answer"
    return AttemptError("unreadable", said, detail=f"{said}: {detail}; see that its url is an OpenAI-compatible one")
