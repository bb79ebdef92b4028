"""Models side by side on the page, in a browser."""

import re

from playwright.sync_api import Page, expect

from quintet.registry.feedback import count_feedback
from tests.fake_endpoint import HANG, Stream, says_part, streams
from tests.server.web.page.conftest import Company


def choose(page: Page, column: int, model: str) -> None:
    page.get_by_role("button", name=f"Column {column}").click()
    page.get_by_role("option", name=re.compile(rf"^.?\s*{model}")).click()


def opened_side_by_side(page: Page) -> None:
    page.get_by_role("link", name="Side by side").click()
    expect(page.get_by_role("heading", name="One question, several answers")).to_be_visible()


def test_versions_the_base_and_a_provider_answer_at_once_and_a_vote_counts(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams("In ", "law, ", "yes.", usage=(4, 7))
    before = {name: count_feedback(firm.project, name) for name in ("hr", "law", "base")}
    opened_side_by_side(page)
    choose(page, 1, "HR@1")
    page.get_by_role("button", name="Another").click()
    choose(page, 3, "Law")
    page.get_by_label("Your question").fill("May I?")
    page.get_by_label("Your question").press("Enter")
    for name, version in (("HR@1", "hr@1"), ("Base", "base"), ("Law", "law")):
        column = page.get_by_role("article", name=f"Answer of {name}")
        expect(column.locator("dd").nth(2)).to_have_text(re.compile(r"^\d+$"))
        expect(column.locator("dd").nth(0)).to_have_text(re.compile(r"^\d+\.\d\d s$"))
        assert version
    page.get_by_role("button", name="Law is best").click()
    expect(page.get_by_text("Law is best. It is in their feedback.")).to_be_visible()
    ups = count_feedback(firm.project, "law")["law"][0]
    assert ups == before["law"].get("law", (0, 0))[0] + 1
    assert count_feedback(firm.project, "hr")["hr@1"][1] == before["hr"].get("hr@1", (0, 0))[1] + 1
    assert count_feedback(firm.project, "base")["base"][1] == before["base"].get("base", (0, 0))[1] + 1


def test_all_are_stopped_at_once(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: Stream([says_part("It begins"), HANG])
    opened_side_by_side(page)
    choose(page, 1, "Law")
    page.get_by_label("Your question").fill("May I?")
    page.get_by_label("Your question").press("Enter")
    expect(page.get_by_role("article", name="Answer of Law")).to_contain_text("It begins")
    page.get_by_role("button", name="Stop (Esc)").click()
    expect(page.get_by_role("article", name="Answer of Law")).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Law is best")).to_have_count(0)
