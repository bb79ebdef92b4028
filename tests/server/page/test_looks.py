"""The page at every width and in both colours: nothing sticks out, and everyone can use it."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.fake_endpoint import streams
from tests.server.page.conftest import Company, ask, opened

ANSWER = (
    "See:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f():  # why\n    return 'x' + 1\n```\n\n> said\n\n"
    + "long" * 80
)
PHONE, WIDE = {"width": 390, "height": 800}, {"width": 1440, "height": 900}


@pytest.fixture(params=["light", "dark"])
def colours(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[PHONE, WIDE], ids=["phone", "wide"])
def shown(browser: Browser, firm: Company, request: pytest.FixtureRequest, colours: str) -> Iterator[Page]:
    context = browser.new_context(base_url=firm.url, viewport=request.param, color_scheme=colours)  # type: ignore[arg-type]
    yield opened(context, firm.keys["all"])
    context.close()


def check(page: Page) -> None:
    """Raise where something sticks out of the window, or somebody could not use it."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert found == [], [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_a_conversation_can_be_read_by_all(shown: Page, firm: Company, colours: str) -> None:
    firm.law.answer = lambda body: streams(ANSWER, usage=(1, 1))
    check(shown)
    ask(shown, "Show me a table, " + "please" * 40, "Law")
    expect(shown.get_by_text("1 tokens")).to_be_visible()
    shown.get_by_role("button", name="A bad answer").click()
    expect(shown.get_by_label("A better answer")).to_be_visible()
    check(shown)
    ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(22, 24, 23)") == (colours == "dark")


def test_the_picker_can_be_read_by_all(shown: Page) -> None:
    shown.get_by_role("button", name="Whom to ask").click()
    expect(shown.get_by_role("listbox")).to_be_visible()
    check(shown)


def test_on_a_phone_the_side_comes_when_it_is_called(browser: Browser, firm: Company) -> None:
    context = browser.new_context(base_url=firm.url, viewport=PHONE)  # type: ignore[arg-type]
    page = opened(context, firm.keys["all"])
    expect(page.get_by_role("button", name="New conversation")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("button", name="New conversation")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="New conversation")).to_be_hidden()
    context.close()


def test_the_way_in_can_be_used_by_all(browser: Browser, firm: Company, colours: str) -> None:
    context = browser.new_context(base_url=firm.url, viewport=PHONE, color_scheme=colours)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto("/chat")
    page.get_by_label("Key", exact=True).fill("qk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This key opens nothing")
    check(page)
    context.close()
