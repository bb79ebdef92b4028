"""The API reference: Swagger UI from the package, without scripts of another host."""

from pathlib import Path

from quintet.server.web.static import page_of

FOLDER = Path(__file__).parent / "reference"
PATH = "/docs"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
router = page_of(FOLDER, PATH, POLICY)
