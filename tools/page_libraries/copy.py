"""Copies the libraries of the server's pages out of node_modules into the package, with their licences.

    npm --prefix tools/page_libraries ci --ignore-scripts && python -m tools.page_libraries.copy

Versions are those of package.json, whose lock file has the digest of each package. What is copied is as it was
published, but for two things: `preact` in an import becomes a file beside it, since a browser knows no package names,
and the name of a source map that is not there goes.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SERVER = HERE.parents[1] / "src/quintet/server/web"
LANGUAGES = (
    "bash", "cpp", "csharp", "css", "diff", "go", "java", "javascript", "json", "markdown", "php", "python", "rust",
    "sql", "typescript", "xml", "yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Vendored:
    """What lies in a vendor folder: files of packages and their licences, each by the name that it gets there."""

    folder: Path
    files: dict[str, str]
    licences: dict[str, str]


PAGE = Vendored(
    SERVER / "page/vendor",
    files={
        "preact/dist/preact.mjs": "preact.js",
        "preact/hooks/dist/hooks.mjs": "hooks.js",
        "htm/dist/htm.module.js": "htm.js",
        "marked/lib/marked.esm.js": "marked.js",
        "dompurify/dist/purify.es.mjs": "purify.js",
        "@highlightjs/cdn-assets/es/core.min.js": "highlight.js",
        **{f"@highlightjs/cdn-assets/es/languages/{name}.min.js": f"languages/{name}.js" for name in LANGUAGES},
    },
    licences={
        "preact/LICENSE": "preact.txt",
        "htm/LICENSE": "htm.txt",
        "marked/LICENSE": "marked.txt",
        "dompurify/LICENSE": "dompurify.txt",
        "@highlightjs/cdn-assets/LICENSE": "highlight.js.txt",
    },
)
REFERENCE = Vendored(
    SERVER / "reference/vendor",
    files={
        "swagger-ui-dist/swagger-ui-bundle.js": "swagger-ui.js",
        "swagger-ui-dist/swagger-ui.css": "swagger-ui.css",
    },
    licences={
        "swagger-ui-dist/LICENSE": "swagger-ui.txt",
        "swagger-ui-dist/NOTICE": "swagger-ui-notice.txt",
        "swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundled.txt",
    },
)
SOURCE_MAP = re.compile(r"\n?(?://# sourceMappingURL=\S+|/\*# sourceMappingURL=\S+\s*\*/)\s*$")
FROM_PREACT = re.compile(r"""from\s*(["'])preact\1""")


def for_a_browser(text: str) -> str:
    """Return a script or a style as it is served."""
    return FROM_PREACT.sub('from"./preact.js"', SOURCE_MAP.sub("\n", text))


def copied(packages: Path, what: Vendored) -> dict[str, str]:
    """Return what is to lie in the vendor folder: path → text."""
    files = {target: for_a_browser((packages / source).read_text("utf-8")) for source, target in what.files.items()}
    licences = {f"licences/{name}": (packages / source).read_text("utf-8") for source, name in what.licences.items()}
    return files | licences


def copy(packages: Path, what: Vendored) -> None:
    """Make the vendor folder hold these files, and no others."""
    wanted = copied(packages, what)
    for path in [path for path in what.folder.rglob("*") if path.is_file()]:
        if path.relative_to(what.folder).as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = what.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if not (HERE / "node_modules").is_dir():
        sys.exit(f"{HERE / 'node_modules'} is not there: npm --prefix tools/page_libraries ci --ignore-scripts")
    for vendored in (PAGE, REFERENCE):
        copy(HERE / "node_modules", vendored)
