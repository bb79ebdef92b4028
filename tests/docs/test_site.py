"""The documentation as a site: it builds without a warning, and its pages ask no other host for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]* src=\"?([^\" >]+)"
    r"|<link[^>]* rel=\"?(?:stylesheet|icon|preload|preconnect)\"?[^>]* href=\"?([^\" >]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return target


def test_every_page_of_the_documentation_is_a_page_of_the_site(site: Path) -> None:
    written = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert written <= {page.relative_to(site) for page in site.rglob("*.html")}


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = {
        url for page in site.rglob("*.html") for pair in LOADED.findall(page.read_text("utf-8")) for url in pair if url
    }
    assert "javascripts/iframe-worker-shim.js" in loaded
    assert [url for url in loaded if url.startswith(("http:", "https:", "//"))] == []


def test_what_is_searched_lies_in_a_script_so_that_the_search_works_from_a_folder(site: Path) -> None:
    assert (site / "search" / "search_index.js").stat().st_size > 50_000


def test_links_of_the_readme_lead_to_files_that_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
