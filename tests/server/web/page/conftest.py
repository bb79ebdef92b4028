"""A company behind a real server, and a real browser before it.

hr and finance have experts of random weights, which answer nonsense; law is answered for by a provider, which says what
a test wants. One server and one browser for all tests of the page; the browser ends with them, since playwright's loop
stands in the way of others' as long as it runs.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from quintet.config import Project
from quintet.engine.engine import MixedEngine
from quintet.engine.runner.model_runner import ModelRunner
from quintet.registry.budgets import parse_budget
from quintet.registry.evidence import record_evidence, write_forgetting
from quintet.registry.keys import create_key
from quintet.registry.releases import release
from quintet.server.app import create_app
from tests.conftest import write_project
from tests.fake_endpoint import FakeEndpoint, serving
from tests.registry.making import evidence_of
from tests.served import MakeExpert, Serve
from tests.server.routers import save_router

pytest.importorskip("playwright")
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TELL_OF_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
)

expect.set_options(timeout=10_000)


@dataclass
class Company:
    """What the tests of the page see of a company: where it is served, its keys, and who answers for law."""

    project: Project
    url: str
    keys: dict[str, str]
    law: FakeEndpoint


def _project(root: Any, base: Any, law: FakeEndpoint, make_expert: MakeExpert) -> Project:
    project = write_project(root, base)
    path = project.root / "quintet.yaml"
    values = yaml.safe_load(path.read_text())
    values["departments"]["law"] = {"description": "Contracts and claims.", "answered_by": ["cloud"]}
    values["providers"] = {"cloud": {"url": law.url, "model": "big"}}
    for name in ("hr", "law"):
        values["departments"][name]["keep_requests"] = "30d"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    project = Project.load(project.root)
    make_expert(project, "hr")
    make_expert(project, "hr", version=2, seed=2)
    make_expert(project, "finance", seed=3)
    save_router(project, hr="leave", finance="invoice")
    return project


@pytest.fixture(scope="session")
def firm(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Any, make_expert: MakeExpert, serve: Serve
) -> Iterator[Company]:
    with ExitStack() as held:
        environment = held.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("NO_PROXY", "127.0.0.1")
        law = held.enter_context(serving(FakeEndpoint()))
        project = _project(tmp_path_factory.mktemp("paged") / "company", tiny_base, law, make_expert)
        keys = {
            "all": create_key(project, departments=["*"], roles=["ask", "admin"], name="all")[1],
            "two": create_key(project, departments=["hr", "finance"], budgets=[parse_budget("1M/day")], name="two")[1],
        }
        engine = MixedEngine(ModelRunner(project.config.base_model, "cpu"))
        url = held.enter_context(serve(create_app(project, engine)))
        yield Company(project, url, keys, law)


@pytest.fixture(scope="module")
def measured(firm: Company) -> Iterator[None]:
    """hr@1 may answer and hr@2 does; hr@1 learnt, as its curve and the matrix say."""
    project = firm.project
    difference = {"mean": 0.31, "low": 0.2, "high": 0.4}
    differences = {"base": {"intervals": {"f1": difference}, "outcomes": {"wins": 30, "ties": 8, "losses": 2}}}
    record_evidence(project, "hr@1", evidence_of(project, live="hr@2", differences=differences))
    blocked = evidence_of(project, passed=False)
    record_evidence(project, "finance@1", {**blocked, "rules": project.gate("finance").model_dump(mode="json")})
    losses = "".join(json.dumps({"step": n, "loss": 3 / n}) + "\n" for n in range(1, 50))
    (project.runs / "hr/1/metrics.jsonl").write_text(losses + json.dumps({"step": 49, "eval_loss": 0.4}) + "\n")
    matrix = {"experts": ["hr@1"], "sets": ["hr", "general"], "base": [40.0, 20.0], "perplexity": [[4.0, 22.0]]}
    write_forgetting(project, matrix)
    yield
    release(project, "hr", 2)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium; CHROMIUM may name a browser of its kind")
    with sync_playwright() as playwright:
        # As root, and in containers, its own sandbox cannot be had.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, firm: Company) -> Iterator[BrowserContext]:
    """A browser that nobody has used before; whatever it complains of is an error."""
    context = browser.new_context(base_url=firm.url, viewport={"width": 1200, "height": 800})
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} {message.location}")

    def refuse(url: str) -> None:
        if not url.startswith((firm.url, "data:", "blob:")):
            complaints.append(f"asked {url}")

    context.on("console", listen)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda request: refuse(request.url))
    context.add_init_script(TELL_OF_VIOLATIONS)
    yield context
    context.close()
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext, firm: Company) -> Page:
    """The page, for a key that opens all and administers."""
    return opened(context, firm.keys["all"])


def opened(context: BrowserContext, key: str) -> Page:
    """Open the page with the key that was typed in before."""
    # An empty page has no storage, and every page is empty first.
    context.add_init_script(f"if (location.protocol === 'http:') sessionStorage.setItem('quintet.key', '{key}')")
    page = context.new_page()
    page.goto("/chat")
    expect(page.get_by_role("button", name="Whom to ask")).to_be_visible()
    return page


def signed_in(context: BrowserContext, key: str) -> Page:
    """Open the page and sign in."""
    page = context.new_page()
    page.goto("/chat")
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Whom to ask")).to_be_visible()
    return page


def ask(page: Page, question: str, model: str | None = None) -> None:
    """Ask, and do not wait for the answer."""
    if model is not None:
        page.get_by_role("button", name="Whom to ask").click()
        page.get_by_role("option", name=model).click()
    page.get_by_label("Your question").fill(question)
    page.get_by_label("Your question").press("Enter")
