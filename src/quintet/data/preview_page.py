"""Previews → one HTML page that needs no server and fetches nothing."""

from collections.abc import Iterable, Sequence
from html import escape

from quintet.data.preview import Preview, PreviewToken

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --dim: #6b7280; --edge: #d1d5db; --trained: #065f46; --ground: #d1fae5; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --dim: #9ca3af; --edge: #4b5563; --trained: #a7f3d0; --ground: #064e3b; }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }}
.tokens {{ font: 14px/2 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
.tokens span {{ color: var(--dim); border: 1px solid var(--edge); border-radius: 3px; padding: 1px 2px; }}
.tokens .trained {{ color: var(--trained); background: var(--ground); border-color: currentcolor; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>Every box is one token, as the model sees it; hover for its id.
<span class="tokens"><span class="trained">Trained</span></span> is what the assistant must learn to say.</p>
{rows}
</body>
</html>
"""


def preview_page(title: str, previews: Iterable[Preview]) -> str:
    """Return the page."""
    rows = "\n".join(
        f'<h2>{escape(one.title)}</h2>\n<div class="tokens">{_tokens(one.tokens)}</div>' for one in previews
    )
    return PAGE.format(title=escape(title), rows=rows)


def _tokens(tokens: Sequence[PreviewToken]) -> str:
    return "".join(
        f'<span{" class=trained" if token.trained else ""} title="{token.id}">{escape(visible(token.text))}</span>'
        # A line of the text ends where the box that holds its end does.
        + ("\n" if "\n" in token.text else "")
        for token in tokens
    )


def visible(text: str) -> str:
    """Return a token's text with signs for what cannot be seen: line ends, tabs, the first half of a character."""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍") or "·"
