"""What experts are worth, and operations, on the page in a browser."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from quintet.registry.releases import live
from tests.server.web.page.conftest import Company, ask, opened

pytestmark = pytest.mark.usefixtures("measured")


def at_experts(page: Page) -> Page:
    page.get_by_role("link", name="Experts").click()
    expect(page.get_by_role("region", name="Versions of HR")).to_be_visible()
    return page


def test_a_version_shows_what_it_is_worth(page: Page) -> None:
    at_experts(page).get_by_role("link", name="hr@1").click()
    expect(page.get_by_role("heading", name="The gate lets hr@1 through")).to_be_visible()
    differences = page.get_by_role("table", name="Differences to base, with 95% intervals")
    expect(differences).to_contain_text("Token F1")
    expect(differences).to_contain_text("+0.31 0.20 to 0.40")
    expect(differences).to_contain_text("better")
    expect(page.get_by_text("30 won, 8 tied, 2 lost")).to_be_visible()
    expect(page.get_by_role("img", name="lowest held-out loss 0.400 at step 49")).to_be_visible()
    matrix = page.get_by_role("region", name="What each expert learnt and forgot")
    expect(matrix).to_contain_text("\N{MULTIPLICATION SIGN}0.10")


def test_a_release_and_a_rollback_hold_from_the_next_question_on(page: Page, firm: Company) -> None:
    at_experts(page).get_by_role("link", name="hr@1").click()
    page.get_by_role("button", name="Release hr@1…").click()
    page.get_by_label("Why, for the history").fill("it is better")
    page.get_by_role("button", name="Release", exact=True).click()
    hr = page.get_by_role("region", name="HR", exact=True)
    expect(hr.locator(".live")).to_contain_text("hr@1")
    page.get_by_role("link", name="Conversation").click()
    ask(page, "Who approves overtime?", "HR")
    expect(page.get_by_role("article", name="Answer of HR").locator("header")).to_contain_text("hr@1")
    at_experts(page)
    hr.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(hr.locator(".live")).to_contain_text("hr@2")
    found = live(firm.project, "hr")
    assert found is not None
    assert found.by.startswith("key ")


def test_what_the_gate_blocks_is_said_in_words(page: Page) -> None:
    at_experts(page).get_by_role("link", name="finance@1").click()
    expect(page.get_by_role("heading", name="The gate blocks finance@1: 1 of 1 rules does")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="specific blocks: it fits")).to_be_visible()


def test_who_may_only_ask_sees_experts_and_releases_nothing(context: BrowserContext, firm: Company) -> None:
    page = at_experts(opened(context, firm.keys["two"]))
    page.get_by_role("link", name="hr@1").click()
    expect(page.get_by_role("heading", name=re.compile("The gate"))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Release|Roll back"))).to_have_count(0)
    expect(page.get_by_role("link", name="Operations")).to_have_count(0)


def test_operations_show_what_is_under_way_and_each_keys_budgets(page: Page) -> None:
    ask(page, "When is pay day?", "HR")
    expect(page.get_by_text(re.compile(r"\d+ tokens"))).to_be_visible()
    page.get_by_role("link", name="Operations").click()
    tile = page.get_by_role("listitem").filter(has_text="First token, median")
    expect(tile.locator("strong")).to_have_text(re.compile(r"\d+ ms|\d\.\d s"))
    row = page.get_by_role("region", name="Departments").get_by_role("row").filter(has_text="HR")
    expect(row.get_by_role("cell").nth(3)).to_have_text(re.compile(r"[1-9]"))
    keys = page.get_by_role("region", name="Keys").get_by_role("row")
    expect(keys.filter(has_text="two")).to_contain_text("HR, Finance")
    expect(keys.filter(has_text="two")).to_contain_text("0 of 1,000,000 tokens a day")
