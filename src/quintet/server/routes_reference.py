"""The API, to read and to try in a browser: Swagger UI as it lies in the package, so that it needs no other host."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from quintet.server.static_files import headers_under, send

FOLDER = Path(__file__).parent / "reference"
PATH = "/docs"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = headers_under(POLICY)

router = APIRouter(include_in_schema=False)


@router.api_route(PATH, methods=["GET", "HEAD"])
def reference(request: Request) -> Response:
    """Return the page."""
    return send(request, FOLDER, "index.html", HEADERS)


@router.api_route(f"{PATH}/{{name:path}}", methods=["GET", "HEAD"])
def file(request: Request, name: str) -> Response:
    """Return one of its files."""
    return send(request, FOLDER, name, HEADERS)
