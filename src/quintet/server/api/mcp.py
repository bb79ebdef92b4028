"""MCP: the departments as tools for assistants and agents.

Each request stands alone: no session is kept, so any replica can serve it. The protocol is that of the library `mcp`,
an extra that is imported when it is first asked for, since that takes a second.
"""

import asyncio
import logging
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import Field, ValidationError
from starlette.types import Receive, Scope, Send

from quintet import __version__
from quintet.errors import ConfigError, OriginError, RequestError
from quintet.server.api.departments import answer_query, answer_routed
from quintet.server.dependencies import Context
from quintet.server.errors import describe
from quintet.server.middleware.auth import NEEDS_KEY, require_ask, require_quota
from quintet.server.schemas.bodies import Body, Query, QueryAnswer, RoutedAnswer, Text
from quintet.serving.auto import finds_anybody
from quintet.serving.caller import Caller
from quintet.serving.services import Services

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, Tool

ROUTE = "route"
"""The tool that finds the department; no department may have the name."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

router = APIRouter(tags=["MCP"], dependencies=[*NEEDS_KEY, Depends(require_ask)])


class ToolQuestion(Body):
    """What a tool is asked."""

    question: Text = Field(pattern=r"\S", description="The question, in whole sentences.")
    max_tokens: int = Field(default=256, ge=1, le=4096, description="Longest answer, in tokens.")


@router.post("/mcp", include_in_schema=False)
async def mcp(request: Request, ctx: Context) -> Response:
    """Serve one message of the protocol."""
    origin = request.headers.get("origin")
    if not (
        origin is None or origin in ctx.project.config.serving.cors_origins or urlsplit(origin).hostname in LOOPBACK
    ):
        raise OriginError
    request.state.ctx = ctx
    try:
        return _Served(await asyncio.to_thread(_new_manager))
    except ImportError:
        raise ConfigError("/mcp takes the library mcp, which is not installed: pip install 'quintet[mcp]'") from None


class _Served(Response):
    """What the library answers."""

    def __init__(self, manager: "StreamableHTTPSessionManager") -> None:
        self._manager = manager
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A manager for each request: whatever works on it ends with it, also when its client has gone.
        async with self._manager.run():
            await self._manager.handle_request(scope, receive, send)


def _new_manager() -> "StreamableHTTPSessionManager":
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    # It says at each start and end that it starts and ends.
    logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)
    return StreamableHTTPSessionManager(_server(), stateless=True)


@cache
def _server() -> "Server[Any]":
    from mcp.server.lowlevel import Server

    instructions = "Each tool asks one department of the company. Where it is not clear whose a question is, use route."
    return Server(
        "quintet", version=__version__, instructions=instructions, on_list_tools=_list_tools, on_call_tool=_call_tool
    )


async def _list_tools(context: "ServerRequestContext[Any]", _: "PaginatedRequestParams | None") -> "ListToolsResult":
    from mcp_types import ListToolsResult

    ctx: Services = context.request.state.ctx  # type: ignore[union-attr]
    departments = ctx.project.config.departments
    tools = [_tool(name, f"Ask {name}: {section.description}", QueryAnswer) for name, section in departments.items()]
    if await finds_anybody(ctx):
        tools.append(_tool(ROUTE, "Ask whichever department the question is for.", RoutedAnswer))
    return ListToolsResult(tools=tools)


def _tool(name: str, description: str, answer: type[QueryAnswer] | type[RoutedAnswer]) -> "Tool":
    from mcp_types import Tool, ToolAnnotations

    return Tool(
        name=name,
        description=description,
        input_schema=ToolQuestion.model_json_schema(),
        output_schema=answer.model_json_schema(),
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


async def _call_tool(context: "ServerRequestContext[Any]", params: "CallToolRequestParams") -> "CallToolResult":
    from mcp_types import CallToolResult, TextContent

    ctx: Services = context.request.state.ctx  # type: ignore[union-attr]
    caller: Caller = context.request.state.caller  # type: ignore[union-attr]
    from mcp.shared.exceptions import MCPError
    from mcp_types import INVALID_PARAMS

    if params.name not in ctx.project.config.departments and not (params.name == ROUTE and await finds_anybody(ctx)):
        raise MCPError(INVALID_PARAMS, f"there is no tool named {params.name!r}")
    try:
        question = _question(params.arguments)
        await require_quota(caller)
        query = Query(query=question.question, max_tokens=question.max_tokens, temperature=0)
        answer = await (answer_routed(ctx, query) if params.name == ROUTE else answer_query(ctx, params.name, query))
    except Exception as error:
        said = describe(error)[1]["error"]["message"]
        return CallToolResult(content=[TextContent(text=said)], is_error=True)
    return CallToolResult(content=[TextContent(text=answer.response)], structured_content=answer.model_dump())


def _question(arguments: dict[str, Any] | None) -> ToolQuestion:
    """Return the arguments of a tool; raise RequestError for those that are none."""
    try:
        return ToolQuestion.model_validate(arguments or {})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors())
        raise RequestError("; ".join(problems)) from None
