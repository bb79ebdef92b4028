"""Conversations on the page, in a browser, where the server keeps them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from quintet.config import Project
from quintet.registry.conversations import list_conversations
from quintet.server.app import create_app
from tests.fake_endpoint import HANG, Stream, says_part, streams
from tests.served import ScriptedEngine, Serve
from tests.server.web.page.conftest import Company, ask, opened, signed_in


@pytest.fixture(scope="module")
def url(firm: Company, serve: Serve) -> Iterator[str]:
    serving = firm.project.config.serving.model_copy(update={"keep_conversations": "30d"})
    project = Project(firm.project.root, firm.project.config.model_copy(update={"serving": serving}))
    with serve(create_app(project, ScriptedEngine([]))) as found:
        firm.law.answer = lambda body: streams("Of zebras.", usage=(1, 1))
        yield found


def arriving(browser: Browser, url: str, key: str) -> Page:
    return opened(browser.new_context(base_url=url), key)


def ask_and_keep(page: Page, question: str) -> None:
    """Ask, and wait until the server has kept the answer."""
    with page.expect_response(
        lambda one: one.request.method == "PUT" and "Of zebras." in (one.request.post_data or "")
    ):
        ask(page, question, "Law")


def test_what_was_said_is_there_in_another_browser(browser: Browser, url: str, firm: Company, tmp_path: Path) -> None:
    page = arriving(browser, url, firm.keys["all"])
    expect(page.get_by_text("kept on the server, until 30 days after")).to_be_visible()
    ask_and_keep(page, "What of stripes?")
    expect(page.get_by_role("button", name="A good answer")).to_be_visible()
    page.context.close()

    page = arriving(browser, url, firm.keys["all"])
    page.get_by_label("Search conversations").fill("ZEBRAS")
    entries = page.get_by_role("navigation").get_by_role("listitem").locator(".title")
    expect(entries).to_have_text(["What of stripes?"])
    page.get_by_label("Search conversations").fill("unicorns")
    expect(entries).to_have_count(0)
    page.get_by_label("Search conversations").fill("")
    page.get_by_role("button", name="More for “What of stripes?”").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    assert json.loads(Path(download.value.path()).read_text())["turns"][0]["answers"][0]["text"] == "Of zebras."
    entries.first.click()
    expect(page.get_by_text("Of zebras.")).to_be_visible()
    ask(page, "And spots?", "Law")
    expect(page.get_by_text("1 tokens")).to_have_count(2)
    page.get_by_role("button", name="More for “What of stripes?”").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("goes from the server")).to_be_visible()
    with page.expect_response(lambda one: one.request.method == "DELETE"):
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(entries).to_have_count(0)
    page.context.close()

    page = arriving(browser, url, firm.keys["all"])
    expect(page.get_by_text("kept on the server")).to_be_visible()
    page.context.close()
    (key,) = [key.split("_")[1] for name, key in firm.keys.items() if name == "all"]
    assert list_conversations(firm.project, key) == []


def test_another_key_sees_none_of_it(browser: Browser, url: str, firm: Company) -> None:
    page = arriving(browser, url, firm.keys["all"])
    ask_and_keep(page, "A secret?")
    page.context.close()
    page = arriving(browser, url, firm.keys["two"])
    expect(page.get_by_text("kept on the server")).to_be_visible()
    page.context.close()


def test_what_cannot_be_kept_is_said(browser: Browser, url: str, firm: Company) -> None:
    page = arriving(browser, url, firm.keys["all"])
    full = {"error": {"message": "No room."}}
    page.route("**/api/conversations/*", lambda route: route.fulfill(status=400, json=full))
    ask(page, "Say much.", "Law")
    expect(page.get_by_role("alert").filter(has_text="No room.")).to_be_visible()
    page.context.close()


def test_an_answer_that_the_page_is_left_in_the_midst_of_is_kept(browser: Browser, url: str, firm: Company) -> None:
    firm.law.answer = lambda body: Stream([says_part("It begins, "), HANG])
    page = arriving(browser, url, firm.keys["all"])
    with page.expect_response(lambda one: one.request.method == "PUT"):
        ask(page, "Who is fast?", "Law")
    page.get_by_text("It begins,").wait_for()
    page.goto("about:blank")
    page.goto("/chat")
    page.get_by_role("button", name="Who is fast?", exact=True).click()
    answer = page.get_by_role("article", name="Answer of Law")
    expect(answer).to_contain_text("It begins,")
    expect(answer).to_contain_text(re.compile("Stopped|broke off"))
    page.context.close()


def test_an_answer_that_ends_after_another_key_has_signed_in_is_kept_for_its_own(
    browser: Browser, url: str, firm: Company
) -> None:
    firm.law.answer = lambda body: Stream([says_part("A secret, "), HANG])
    context = browser.new_context(base_url=url)
    page = signed_in(context, firm.keys["all"])
    with page.expect_response(lambda one: one.request.method == "PUT"):
        ask(page, "What is nobody else's?", "Law")
    page.get_by_text("A secret,").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Key", exact=True).fill(firm.keys["two"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Whom to ask")).to_be_visible()
    page.goto("about:blank")
    context.close()
    page = arriving(browser, url, firm.keys["two"])
    expect(page.get_by_text("kept on the server")).to_be_visible()
    assert list_conversations(firm.project, firm.keys["two"].split("_")[1]) == []
    page.context.close()
    page = arriving(browser, url, firm.keys["all"])
    page.get_by_role("button", name="What is nobody else's?", exact=True).click()
    expect(page.get_by_role("article", name="Answer of Law")).to_contain_text("A secret,")
    page.context.close()
