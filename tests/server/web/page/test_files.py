"""The files of the page: whole, small, cached, and under a policy."""

import gzip
import re

import httpx
import pytest

from quintet.config import Project
from quintet.registry.keys import create_key
from quintet.server.app import create_app
from quintet.server.web.page import FOLDER
from quintet.server.web.static import files_below
from tests.served import MakeExpert, ScriptedEngine, Serve

MOST_BYTES = 250_000
IMPORT = re.compile(r"""(?:^|\b)(?:import|export)[^"'`;]*?from\s*["']([^"']+)["']|import\s*["']([^"']+)["']""", re.M)


# Of the libraries, one imports another; the languages are words alone, and "import" is one of them.
OWN = [path for path in files_below(FOLDER) if path.endswith(".js") and not path.startswith("vendor/languages/")]


def test_the_page_and_all_that_it_loads_are_small() -> None:
    assert sum(len(file.compressed) for file in files_below(FOLDER).values()) < MOST_BYTES


def test_the_page_has_no_script_or_style_within_it() -> None:
    text = (FOLDER / "index.html").read_text()
    assert "<style" not in text
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"\s(?:on\w+|style)=", text)


@pytest.mark.parametrize("path", OWN)
def test_every_import_is_a_file_that_is_there(path: str) -> None:
    for found in IMPORT.findall((FOLDER / path).read_text()):
        name = found[0] or found[1]
        assert name.startswith("."), name
        assert ((FOLDER / path).parent / name).resolve().is_file(), name


def test_each_library_comes_with_its_licence() -> None:
    licences = {path.stem for path in (FOLDER / "vendor/licences").iterdir()}
    assert licences == {"preact", "htm", "marked", "dompurify", "highlight.js"}


def test_the_page_comes_under_a_policy_that_lets_nothing_else_in(api: httpx.Client) -> None:
    for path in ("/chat", "/chat/app.js", "/chat/vendor/purify.js"):
        headers = api.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_a_browser_has_a_file_sent_once(api: httpx.Client) -> None:
    first = api.get("/chat/app.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = api.get("/chat/app.js", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


def test_a_file_is_compressed_for_who_can_read_that(api: httpx.Client) -> None:
    plain = api.get("/chat/style.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with api.stream("GET", "/chat/style.css", headers={"Accept-Encoding": "gzip"}) as response:
        assert gzip.decompress(b"".join(response.iter_raw())) == plain.content


@pytest.mark.parametrize("path", ["/chat/none.js", "/chat/../app.py", "/chat/%2e%2e/app.py", "/chat/"])
def test_nothing_but_its_files_is_served(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 404


def test_browsers_are_led_from_the_root_to_the_page(api: httpx.Client) -> None:
    answer = api.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.next_request is not None
    assert answer.next_request.url.path == "/chat"
    assert api.get("/").json()["name"] == "Quintet"


def test_the_page_needs_no_key_and_what_it_asks_does(project: Project, make_expert: MakeExpert, serve: Serve) -> None:
    make_expert(project)
    create_key(project, departments=["hr"])
    with serve(create_app(project, ScriptedEngine([]))) as url, httpx.Client(base_url=url) as client:
        assert client.get("/chat").status_code == client.get("/chat/app.js").status_code == 200
        assert client.get("/").json()["needs_key"]
        assert client.get("/api/me").status_code == 401


def test_a_key_is_told_what_it_may(project: Project, make_expert: MakeExpert, serve: Serve) -> None:
    from quintet.registry.budgets import parse_budget

    make_expert(project)
    key, secret = create_key(project, departments=["hr"], budgets=[parse_budget("1k/day")], name="payroll")
    with serve(create_app(project, ScriptedEngine([]))) as url:
        me = httpx.get(f"{url}/api/me", headers={"Authorization": f"Bearer {secret}"}).json()
    assert (me["key"], me["name"], me["roles"], me["company"]) == (key.id, "payroll", ["ask"], "Tiny")
    (budget,) = me["budgets"]
    assert (budget["unit"], budget["period"], budget["allowed"], budget["used"]) == ("tokens", "day", 1000, 0)
    assert 0 < budget["resets_in"] <= 86_400


def test_where_no_key_is_needed_everyone_may_all(api: httpx.Client) -> None:
    assert not api.get("/").json()["needs_key"]
    me = api.get("/api/me").json()
    assert (me["key"], me["roles"], me["budgets"]) == (None, ["ask", "admin"], [])
