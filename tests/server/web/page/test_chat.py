"""A conversation on the page, in a browser."""

import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from quintet.registry.feedback import count_feedback, rated
from tests.fake_endpoint import HANG, Reply, Stream, says_part, streams
from tests.server.web.page.conftest import Company, ask, signed_in

NASTY = """Look: <script>document.title = "taken"</script> <img src=x onerror="document.title = 'taken'">

<iframe src="javascript:parent.document.title='taken'"></iframe><svg onload="document.title='taken'">
<style>*{display:none}</style>

[click](javascript:document.title='taken') [data](data:text/html,<script>alert(1)</script>)
![seen](http://127.0.0.1:9/pixel.png)

<a href="javascript:document.title='taken'" onclick="document.title='taken'">here</a>

```html"><script>document.title='taken'</script>
<script>document.title = "taken"</script>
```
"""


def test_whoever_signs_in_sees_what_their_key_opens(context: BrowserContext, firm: Company) -> None:
    page = signed_in(context, firm.keys["two"])
    expect(page.get_by_role("heading", name="What would you like to ask Tiny?")).to_be_visible()
    page.get_by_role("button", name="Whom to ask").click()
    names = [one.locator("strong").inner_text() for one in page.get_by_role("option").all()]
    assert names == ["Auto", "HR", "Finance"]
    assert "qk_" not in page.url
    stored = page.evaluate("JSON.stringify(localStorage)")
    assert "qk_" not in stored


def test_the_way_in_asks_for_a_key_and_complains_of_nothing_yet(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_question_is_answered_and_kept(page: Page, firm: Company) -> None:
    ask(page, "When is pay day?", "HR")
    answer = page.get_by_role("article", name="Answer of HR")
    expect(answer.get_by_text(re.compile(r"\d+ tokens"))).to_be_visible()
    expect(answer.locator("header")).to_contain_text("hr@2")
    page.reload()
    page.get_by_role("button", name="When is pay day?", exact=True).click()
    expect(page.get_by_role("article", name="Answer of HR")).to_be_visible()


def test_after_auto_it_is_said_who_answered_and_another_is_a_click_away(page: Page) -> None:
    ask(page, "How much leave do I get?", "Auto")
    routed = page.locator(".routed")
    expect(routed).to_contain_text(re.compile(r"Sent to HR, \d+% sure"))
    routed.get_by_role("button", name="Finance").click()
    answer = page.get_by_role("article", name="Answer of Finance")
    expect(answer.get_by_text(re.compile(r"\d+ tokens"))).to_be_visible()
    answer.get_by_role("button", name="The answer before").click()
    expect(page.get_by_role("article", name="Answer of HR")).to_be_visible()


def test_what_is_nobodys_can_be_given_to_anybody(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams("It depends.", usage=(3, 2))
    ask(page, "What is the capital of France?", "Auto")
    routed = page.locator(".routed")
    expect(routed).to_contain_text("It is not clear which department this is for")
    expect(page.get_by_role("button", name="A good answer")).to_have_count(0)
    routed.get_by_role("button", name="Law").click()
    expect(page.get_by_role("article", name="Answer of Law")).to_contain_text("It depends.")


def test_an_answer_can_be_stopped(page: Page, firm: Company) -> None:
    before = firm.law.abandoned
    firm.law.answer = lambda body: Stream([says_part("It begins, "), says_part("and then"), HANG])
    ask(page, "Tell me all.", "Law")
    expect(page.get_by_text("It begins, and then")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    deadline = time.monotonic() + 5
    while firm.law.abandoned == before and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert firm.law.abandoned == before + 1


def test_a_question_can_be_edited_and_asked_again(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams(f"You said: {body['messages'][-1]['content']}", usage=(1, 1))
    ask(page, "First?", "Law")
    expect(page.get_by_text("You said: First?")).to_be_visible()
    ask(page, "Second?")
    expect(page.get_by_text("You said: Second?")).to_be_visible()
    expect(page.get_by_text("1 tokens")).to_have_count(2)
    assert [one["content"] for one in firm.law.bodies[-1]["messages"]] == ["First?", "You said: First?", "Second?"]
    page.get_by_label("Your question").press("ArrowUp")
    page.get_by_label("Edit your question").fill("Third?")
    page.get_by_label("Edit your question").press("Enter")
    expect(page.get_by_text("You said: Third?")).to_be_visible()
    assert [one["content"] for one in firm.law.bodies[-1]["messages"]] == ["First?", "You said: First?", "Third?"]
    expect(page.get_by_text("You said: Second?")).to_have_count(0)
    page.get_by_role("button", name="Ask again", exact=True).last.click()
    expect(page.get_by_label("Answer 2 of 2")).to_be_visible()
    assert firm.law.bodies[-1]["temperature"] > firm.law.bodies[-2]["temperature"] == 0


def test_what_goes_wrong_is_said_and_can_be_tried_again(page: Page, firm: Company) -> None:
    firm.law.answers_in_turn(streams("Half of", reason="length"), streams("All of it."))
    ask(page, "Say all.", "Law")
    expect(page.get_by_text("longer than the page asks for")).to_be_visible()
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(page.get_by_text("All of it.")).to_be_visible()


def test_feedback_reaches_the_store(page: Page, firm: Company) -> None:
    before = count_feedback(firm.project, "hr").get("hr@2", (0, 0))
    ask(page, "Where do I park, please?", "HR")
    page.get_by_role("button", name="A bad answer").click()
    page.get_by_label("A better answer").fill("Behind the clinic.")
    page.get_by_label("A comment").fill("Nonsense")
    page.get_by_role("button", name="Send", exact=True).first.click()
    expect(page.get_by_label("A comment")).to_have_count(0)
    expect(page.get_by_role("button", name="A bad answer")).to_have_attribute("aria-pressed", "true")
    assert count_feedback(firm.project, "hr")["hr@2"] == (before[0], before[1] + 1)
    opinions = [one.opinion for one in rated(firm.project, "hr")]
    assert ("Behind the clinic.", "Nonsense") in [(one.better_answer, one.comment) for one in opinions]


def test_where_no_texts_are_kept_none_are_asked_for(page: Page) -> None:
    ask(page, "What does it cost?", "Finance")
    page.get_by_role("button", name="A good answer").click()
    expect(page.get_by_text("counts ratings only; comments are not kept")).to_be_visible()
    expect(page.get_by_label("A comment")).to_have_count(0)


def test_markdown_is_shown_as_it_is_meant(page: Page, firm: Company) -> None:
    text = "# Head\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```python\nprint('x')\n```\n\n- **one**\n- [site](https://example.org/)\n"
    firm.law.answer = lambda body: streams(text[:30], text[30:], usage=(1, 1))
    ask(page, "Show me.", "Law")
    answer = page.get_by_role("article", name="Answer of Law")
    expect(answer.get_by_role("heading", name="Head")).to_be_visible()
    expect(answer.get_by_role("cell", name="2")).to_have_css("text-align", "end")
    expect(answer.locator(".hljs-built_in")).to_have_text("print")
    expect(answer.get_by_role("link", name="site")).to_have_attribute("rel", "noopener noreferrer")


def test_an_answer_can_never_run_a_script(page: Page, firm: Company) -> None:
    long = NASTY + "word and " * 5_000 + "\n\n" + "x" * 60_000
    assert len(long) > 100_000
    firm.law.answer = lambda body: streams(NASTY, *re.findall(r"(?s).{1,4000}", long[len(NASTY) :]), usage=(1, 1))
    ask(page, "Be nasty.", "Law")
    answer = page.get_by_role("article", name="Answer of Law")
    expect(answer.get_by_text("1 tokens")).to_be_visible()
    expect(answer).to_contain_text("x" * 60_000)
    expect(answer).to_contain_text("""<script>document.title = "taken"</script>""")
    for link in answer.get_by_role("link").all():
        assert (link.get_attribute("href") or "").startswith("http://127.0.0.1:9/pixel.png")
        link.hover()
    assert answer.locator("script, img, iframe, style, svg:not(.icon), [onerror], [onload], [onclick]").count() == 0
    assert page.title() == "Tiny · Quintet"


def test_conversations_are_found_renamed_saved_and_deleted(page: Page, firm: Company, tmp_path: Path) -> None:
    firm.law.answer = lambda body: streams("Of zebras.", usage=(1, 1))
    ask(page, "What of stripes?", "Law")
    expect(page.get_by_text("Of zebras.")).to_be_visible()
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Another matter?")
    expect(page.get_by_text("Of zebras.")).to_be_visible()
    page.get_by_label("Search conversations").fill("STRIPES")
    entries = page.get_by_role("navigation").get_by_role("listitem").locator(".title")
    expect(entries).to_have_text(["What of stripes?"])
    page.get_by_role("button", name="More for “What of stripes?”").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Title").fill("Stripes")
    page.get_by_label("Title").press("Enter")
    expect(entries).to_have_text(["Stripes"])
    for kind, held in (("Markdown", "**Law:** Of zebras."), ("JSON", '"text": "Of zebras."')):
        page.get_by_role("button", name="More for “Stripes”").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Save as {kind}").click()
        path = tmp_path / saved.value.suggested_filename
        saved.value.save_as(path)
        assert held in path.read_text()
        assert kind == "Markdown" or json.loads(path.read_text())["title"] == "Stripes"
    page.get_by_role("button", name="More for “Stripes”").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(entries).to_have_count(0)
    page.reload()
    expect(entries).to_have_text(["Another matter?"])


def test_two_keys_at_one_browser_do_not_see_each_others_conversations(context: BrowserContext, firm: Company) -> None:
    firm.law.answer = lambda body: Reply("", 503)
    page = signed_in(context, firm.keys["all"])
    ask(page, "A secret of mine", "HR")
    expect(page.get_by_role("article")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Key", exact=True).fill(firm.keys["two"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Conversations are kept in this browser.")).to_be_visible()


def test_the_keyboard_is_enough(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams("Yes.", usage=(1, 1))
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.press("Alt+KeyM")
    page.keyboard.press("l")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Whom to ask: Law")).to_be_visible()
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("Line one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line two")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Yes.")).to_be_visible()
    assert firm.law.bodies[-1]["messages"][-1]["content"] == "Line one\nline two"
    page.keyboard.press("Alt+KeyN")
    expect(page.get_by_role("heading", name="What would you like to ask Tiny?")).to_be_visible()


@pytest.mark.parametrize(("text", "direction"), [("ما هي ساعات العمل؟", "rtl"), ("कार्य समय क्या है?", "ltr")])
def test_each_script_runs_its_own_way(page: Page, firm: Company, text: str, direction: str) -> None:
    firm.law.answer = lambda body: streams(f"{text}\n\n1. {text}\n2. HR-03", usage=(1, 1))
    ask(page, text, "Law")
    expect(page.locator(".text p")).to_have_text(text)
    assert page.locator(".question").evaluate("e => getComputedStyle(e).direction") == direction
    for part in ("p", "ol", "li >> nth=1"):
        expect(page.locator(f".text {part}")).to_have_css("direction", direction)
