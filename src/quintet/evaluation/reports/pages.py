"""Templates → HTML pages that fetch nothing. Knows where the templates lie, and nothing of what they show."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

PACKAGE = "quintet.evaluation.reports"


def render(template: str, script: str | None = None, **values: Any) -> str:
    """Return the page, all values escaped; `script` names the one file whose code a browser may run in it.

    The page's content security policy holds that script's digest, so that no text could run even if it escaped.
    """
    code = "" if script is None else (files(PACKAGE) / script).read_text("utf-8")
    digest = b64encode(sha256(code.encode()).digest()).decode()
    made = _environment().get_template(template)
    page = made.render(script=Markup(code), script_digest=digest, **values)  # noqa: S704 (a file of ours)
    # A half of a surrogate pair, which JSON lets through, has no bytes to be written as.
    return page.encode("utf-8", "replace").decode("utf-8")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(PACKAGE, ""),
        # By hand and not by file name: jinja2 would not take `.html.jinja` for HTML.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
