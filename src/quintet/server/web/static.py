"""Static files of the package, compressed and cached for browsers."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response


def _headers_under(policy: str) -> dict[str, str]:
    """Return the headers of a page that comes under a Content-Security-Policy, and those of its files."""
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Asked about each time, and sent only when it has changed: a new version of the server is a new page at once.
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }


def page_of(folder: Path, path: str, policy: str) -> APIRouter:
    """Return the routes of a page that lies in a folder, `index.html` and its files, under a policy of its own."""
    router, headers = APIRouter(include_in_schema=False), _headers_under(policy)

    @router.api_route(path, methods=["GET", "HEAD"])
    def page(request: Request) -> Response:
        return _send(request, folder, "index.html", headers)

    @router.api_route(f"{path}/{{name:path}}", methods=["GET", "HEAD"])
    def file(request: Request, name: str) -> Response:
        return _send(request, folder, name, headers)

    return router


@dataclass(frozen=True)
class File:
    """A file: what it is, its bytes, plain and compressed, and what tells it from any other."""

    media_type: str
    plain: bytes
    compressed: bytes
    tag: str


@cache
def files_below(folder: Path) -> dict[str, File]:
    """Return every file by its path below the folder."""
    return {path.relative_to(folder).as_posix(): _file(path) for path in folder.rglob("*") if path.is_file()}


def _file(path: Path) -> File:
    plain = path.read_bytes()
    kind = {".js": "text/javascript"}.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    text = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return File(text, plain, gzip.compress(plain, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:32]}"')


def _send(request: Request, folder: Path, name: str, headers: Mapping[str, str]) -> Response:
    """Return a file, or that the browser has it already; raise 404 when there is none of the name."""
    found = files_below(folder).get(name)
    if found is None:
        raise HTTPException(404)
    headers = {**headers, "ETag": found.tag}
    if found.tag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    body = found.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers = found.compressed, {**headers, "Content-Encoding": "gzip"}
    return Response(body, headers=headers, media_type=found.media_type)
