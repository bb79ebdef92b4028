"""Authentication: each request is given its caller, by its key, before anything looks at it.

What a caller may see and do is the caller's own affair (`serving.caller`).
"""

import asyncio
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quintet.config import KeyMode
from quintet.errors import KeyRequiredError, UnreachableError
from quintet.registry.keys import any_keys, check_key
from quintet.serving.caller import ANONYMOUS, SUPERUSER, Caller
from quintet.serving.live_project import LiveProject
from quintet.serving.quota import Account, QuotaStore

OPEN_PATHS = frozenset({"/", "/chat", "/docs", "/openapi.json", "/health", "/ready"})
"""What answers without a key too. To a stranger there are no departments."""
OPEN_FOLDERS = ("/chat/", "/docs/")
"""The files of the pages, which are the same for all, and tell nothing."""


NEEDS_KEY = (
    Security(HTTPBearer(auto_error=False, scheme_name="Bearer", description="A key: qk_...")),
    Security(APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="X-API-Key", description="A key: qk_...")),
)
"""For the documentation: what is to be sent with a request. The middleware has looked at it already."""


class Authenticator:
    """Tells who sends a request, by the key that it came with."""

    def __init__(self, current: LiveProject, mode: KeyMode, quota_store: QuotaStore) -> None:
        self._current = current
        self._mode = mode
        self._quota_store = quota_store

    async def caller(self, headers: Headers, path: str) -> Caller:
        """Return who it is; raise KeyRequiredError, or UnreachableError when the registry cannot say."""
        if self._mode == "off":
            return SUPERUSER
        presented = _presented(headers)
        if presented is not None:
            key = await asyncio.to_thread(check_key, self._current.project, presented)
            if key is not None:
                limits = Account(self._quota_store, key)
                return Caller(f"key {key.id}", key.departments, key.roles, limits=limits)
        is_open_path = presented is None and (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS))
        try:
            if self._mode == "auto" and await asyncio.to_thread(any_keys, self._current.project):
                self._mode = "required"
            if self._mode != "required":
                return SUPERUSER
        except UnreachableError:
            if not is_open_path:
                raise
        if is_open_path:
            return ANONYMOUS
        raise KeyRequiredError


def _presented(headers: Headers) -> str | None:
    """Return the key of a request; `X-API-Key` goes first, since a proxy may want `Authorization` for itself."""
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


class Authentication:
    """Gives each request its caller, and each response the headers that say what is left of their quotas."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        caller = await self._authenticator.caller(Headers(scope=scope), scope["path"])
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send if caller.limits is None else _with_budgets(send, caller.limits))


def _with_budgets(send: Send, account: Account) -> Send:
    async def send_with_budgets(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(dict(account.headers()))
        await send(message)

    return send_with_budgets


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


Called = Annotated[Caller, Depends(_caller)]


async def require_quota(caller: Called) -> None:
    """Let a route be used by callers who may ask, and count the request; raise RoleError, BudgetError."""
    caller.check_role("ask")
    if caller.limits is not None:
        await caller.limits.count_request()


async def require_ask(caller: Called) -> None:
    """Let a route be used by callers who may ask, and count nothing; raise RoleError."""
    caller.check_role("ask")


async def require_admin(caller: Called) -> None:
    """Let a route be used by administrators alone; raise RoleError."""
    caller.check_role("admin")
