"""The chat page: its files, under a content security policy that allows nothing else.

Knows nothing of what they show: the page asks the API as any other client does, with the key of whoever sits before it.
"""

from pathlib import Path

from quintet.server.web.static import page_of

FOLDER = Path(__file__).parent / "page"
PATH = "/chat"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
"""Nothing but the server's own files; and only what the sanitiser has passed can become a part of the page."""
router = page_of(FOLDER, PATH, POLICY)
