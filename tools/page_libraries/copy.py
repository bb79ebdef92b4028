"""Copies the libraries of the page out of node_modules into the package, with their licences.

    npm --prefix tools/page_libraries ci --ignore-scripts && python -m tools.page_libraries.copy

Versions are those of package.json, whose lock file has the digest of each package. What is copied is as it was
published, but for two things: `preact` in an import becomes a file beside it, since a browser knows no package names,
and the name of a source map that is not there goes.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "src/quintet/server/page/vendor"
LANGUAGES = (
    "bash", "cpp", "csharp", "css", "diff", "go", "java", "javascript", "json", "markdown", "php", "python", "rust",
    "sql", "typescript", "xml", "yaml",
)  # fmt: skip

FILES = {
    "preact/dist/preact.mjs": "preact.js",
    "preact/hooks/dist/hooks.mjs": "hooks.js",
    "htm/dist/htm.module.js": "htm.js",
    "marked/lib/marked.esm.js": "marked.js",
    "dompurify/dist/purify.es.mjs": "purify.js",
    "@highlightjs/cdn-assets/es/core.min.js": "highlight.js",
    **{f"@highlightjs/cdn-assets/es/languages/{name}.min.js": f"languages/{name}.js" for name in LANGUAGES},
}
LICENCES = {
    "preact/LICENSE": "preact.txt",
    "htm/LICENSE": "htm.txt",
    "marked/LICENSE": "marked.txt",
    "dompurify/LICENSE": "dompurify.txt",
    "@highlightjs/cdn-assets/LICENSE": "highlight.js.txt",
}
SOURCE_MAP = re.compile(r"\n?//# sourceMappingURL=\S+\s*$")
FROM_PREACT = re.compile(r"""from\s*(["'])preact\1""")


def for_a_browser(script: str) -> str:
    """Return a module as the page serves it."""
    return FROM_PREACT.sub('from"./preact.js"', SOURCE_MAP.sub("\n", script))


def copied(packages: Path) -> dict[str, str]:
    """Return what is to lie in the vendor folder: path → text."""
    scripts = {target: for_a_browser((packages / source).read_text("utf-8")) for source, target in FILES.items()}
    licences = {f"licences/{target}": (packages / source).read_text("utf-8") for source, target in LICENCES.items()}
    return scripts | licences


def copy(packages: Path, target: Path) -> None:
    """Make the folder hold these files, and no others."""
    wanted = copied(packages)
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target).as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if not (HERE / "node_modules").is_dir():
        sys.exit(f"{HERE / 'node_modules'} is not there: npm --prefix tools/page_libraries ci --ignore-scripts")
    copy(HERE / "node_modules", TARGET)
