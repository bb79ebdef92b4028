"""Every view at every width and in both colours: nothing sticks out, nothing is cut off, and everyone can use it."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.fake_endpoint import streams
from tests.server.web.page.conftest import Company, ask, opened

ANSWER = (
    "See:\n\n| a | b | c | d | e |\n|---|--:|---|---|---|\n| 1 | 2 | three | four | five |\n\n"
    "```python\ndef f():  # why\n    return 'x' + 1\n```\n\n> said\n\n"
    "1. एक कर्मचारी को छुट्टी मिलती है।\n2. يحصل الموظف على إجازة.\n\n" + "long" * 80
)
LONG = "please" * 40
PHONE, TABLET, WIDE = {"width": 390, "height": 800}, {"width": 820, "height": 1100}, {"width": 1440, "height": 900}
WHAT_STICKS_OUT = """() => {
  const name = (one) => `${one.tagName}.${one.className.baseVal ?? one.className}: ${one.textContent.slice(0, 40)}`;
  const isLooked = (one) => !one.closest('.hidden, .skip, svg') && one.checkVisibility({ visibilityProperty: true });
  const scrolls = (one) => one.matches('.table, pre, textarea, input');
  return [document.documentElement, ...document.body.querySelectorAll('*')].filter(isLooked).flatMap((one) => {
    const { left, right } = one.getBoundingClientRect();
    const style = getComputedStyle(one);
    const isWithin = one.parentElement?.closest('.table, pre');
    const isOut = !isWithin && (left < -1 || right > innerWidth + 1);
    const isCut = style.overflowX !== 'visible' && style.textOverflow !== 'ellipsis' && !scrolls(one)
      && one.scrollWidth > one.clientWidth + 1;
    return [isOut && `outside: ${name(one)}`, isCut && `cut off: ${name(one)}`].filter(Boolean);
  });
}"""
"""What no one can see: beyond the window, or within something that hides or scrolls it sideways and may not."""


def looked_at(page: Page, *widths: dict[str, int]) -> None:
    """Raise where somebody could not see or use the page as it is now, in both colours, at all widths."""
    page.evaluate(AXE_SCRIPT)
    for width in widths or (PHONE, TABLET, WIDE):
        page.set_viewport_size(width)  # type: ignore[arg-type]
        sticking = page.evaluate(WHAT_STICKS_OUT)
        assert sticking == [], (width, sticking)
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours)
            found = _objections(page, colours)
            assert found == [], (width, colours, found)


def _objections(page: Page, colours: str) -> list[Any]:
    # Only contrast is another in the dark.
    rules = {"runOnly": ["color-contrast"]} if colours == "dark" else {}
    options = {"resultTypes": ["violations"], **rules}
    violations = page.evaluate("options => axe.run(options).then(found => found.violations)", options)
    serious = [one for one in violations if one["impact"] in ("serious", "critical")]
    return [(one["id"], [(node["html"], node["any"]) for node in one["nodes"]]) for one in serious]


@pytest.fixture
def page(browser: Browser, firm: Company) -> Iterator[Page]:
    """The page where nothing moves: what is on its way to another colour is no colour to judge."""
    context = browser.new_context(base_url=firm.url, viewport=WIDE, reduced_motion="reduce")  # type: ignore[arg-type]
    yield opened(context, firm.keys["all"])
    context.close()


def test_the_first_look_and_the_picker_are_for_all(page: Page) -> None:
    looked_at(page)
    page.get_by_role("button", name="Whom to ask").click()
    expect(page.get_by_role("listbox")).to_be_visible()
    looked_at(page)


def test_a_conversation_is_for_all(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams(ANSWER, usage=(1, 1))
    ask(page, f"Show me a table, {LONG}", "Law")
    expect(page.get_by_text("1 tokens")).to_be_visible()
    page.get_by_role("button", name="A bad answer").click()
    expect(page.get_by_label("A better answer")).to_be_visible()
    name = f"{LONG}.csv"
    page.set_input_files("input[type=file]", {"name": name, "mimeType": "text/csv", "buffer": b"day,hours\nmon,7.5\n"})
    expect(page.get_by_role("button", name="Without")).to_be_visible()
    looked_at(page)


def test_answers_side_by_side_are_for_all(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams(ANSWER, usage=(1, 1))
    page.get_by_role("link", name="Side by side").click()
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.get_by_role("button", name="Column 2").click()
    looked_at(page, PHONE)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Another").click()
    page.get_by_label("Your question").fill(f"Who signs? {LONG}")
    page.get_by_label("Your question").press("Enter")
    expect(page.get_by_role("button", name="is best")).to_have_count(3)
    looked_at(page)


def test_what_experts_are_worth_is_for_all(page: Page, measured: None) -> None:
    page.get_by_role("link", name="Experts").click()
    page.get_by_role("link", name="hr@1").click()
    expect(page.get_by_role("heading", name="The gate lets hr@1 through")).to_be_visible()
    looked_at(page)
    page.get_by_role("button", name="Release hr@1…").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    looked_at(page, PHONE)


def test_operations_are_for_all(page: Page) -> None:
    ask(page, "When is pay day?", "HR")
    page.get_by_role("link", name="Operations").click()
    expect(page.get_by_role("region", name="Keys").get_by_role("row")).to_have_count(3)
    looked_at(page)


def test_on_a_phone_the_side_comes_when_it_is_called(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    expect(page.get_by_role("button", name="New conversation")).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("button", name="New conversation")).to_be_visible()
    looked_at(page, PHONE)
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="New conversation")).to_be_hidden()


def test_colours_are_the_systems_until_others_are_chosen(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(22, 24, 23)"
    page.get_by_role("button", name="Colours: As the system").click()
    assert page.evaluate(ground) == "rgb(251, 250, 248)"


def test_the_way_in_is_for_all(browser: Browser, firm: Company) -> None:
    context: BrowserContext = browser.new_context(base_url=firm.url, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/chat")
    page.get_by_label("Key", exact=True).fill("qk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This key opens nothing")
    looked_at(page)
    context.close()
