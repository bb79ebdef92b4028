"""DOCX → Markdown, by way of HTML. Headers, footers, comments and pictures of the document are not read."""

import io

import mammoth  # type: ignore[import-untyped]

from quintet.data.documents.html import html_to_markdown

STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
"""


def docx_to_markdown(data: bytes) -> str:
    """Return the document's text as Markdown: headings, lists, tables, footnotes."""
    # Pictures would come as megabytes of base64.
    nothing = mammoth.images.img_element(lambda image: {"src": ""})
    converted = mammoth.convert_to_html(io.BytesIO(data), style_map=STYLES, convert_image=nothing)
    return html_to_markdown(converted.value)
