"""The page for people: files as they lie in the package, under a policy that lets nothing else in.

Knows nothing of what they show: the page asks the API as any other client does, with the key of whoever sits before it.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

FOLDER = Path(__file__).parent / "page"
PATH = "/chat"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
"""Nothing but the server's own files; and only what the sanitiser has passed can become a part of the page."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked about each time, and sent only when it has changed: a new version of the server is a new page at once.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class File:
    """A file of the page: what it is, its bytes, plain and compressed, and what tells it from any other."""

    media_type: str
    plain: bytes
    compressed: bytes
    tag: str


@cache
def page_files() -> dict[str, File]:
    """Return every file of the page by its path below the page's own."""
    return {path.relative_to(FOLDER).as_posix(): _file(path) for path in FOLDER.rglob("*") if path.is_file()}


def _file(path: Path) -> File:
    plain = path.read_bytes()
    kind = {".js": "text/javascript"}.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    text = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return File(text, plain, gzip.compress(plain, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:32]}"')


@router.api_route(PATH, methods=["GET", "HEAD"])
def page(request: Request) -> Response:
    """Return the page."""
    return send(request, page_files()["index.html"])


@router.api_route(f"{PATH}/{{name:path}}", methods=["GET", "HEAD"])
def file(request: Request, name: str) -> Response:
    """Return one of its files."""
    found = page_files().get(name)
    if found is None:
        raise HTTPException(404)
    return send(request, found)


def send(request: Request, found: File) -> Response:
    """Return a file, or that the browser has it already."""
    headers = {**HEADERS, "ETag": found.tag}
    if found.tag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    body = found.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers = found.compressed, {**headers, "Content-Encoding": "gzip"}
    return Response(body, headers=headers, media_type=found.media_type)
