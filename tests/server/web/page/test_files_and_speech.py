"""Files beside a question, and speech, on the page in a browser."""

from playwright.sync_api import BrowserContext, Page, expect

from tests.fake_endpoint import streams
from tests.server.web.page.conftest import Company, ask, opened

SPEECH = """
  class Recognition {
    start() {
      const results = [Object.assign([{ transcript: "When is pay day?" }], { isFinal: true })];
      setTimeout(() => this.onresult({ resultIndex: 0, results }), 0);
    }
    stop() { this.onend(); }
  }
  globalThis.SpeechRecognition = globalThis.webkitSpeechRecognition = Recognition;
  globalThis.spoken = [];
  const value = { cancel() {}, speak(said) { spoken.push(said.text); } };
  Object.defineProperty(globalThis, "speechSynthesis", { value });
"""


def put(page: Page, name: str, text: str) -> None:
    page.get_by_label("Put files beside it").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": text.encode()}
    )


def test_a_files_text_goes_with_the_question(page: Page, firm: Company) -> None:
    firm.law.answer = lambda body: streams("45 pence", usage=(9, 1))
    put(page, "rates.csv", "journey,pence\nby car,45\n")
    expect(page.get_by_role("status").filter(has_text="tokens")).to_be_visible()
    ask(page, "What does a mile pay?", "Law")
    expect(page.get_by_text("45 pence", exact=True)).to_be_visible()
    assert firm.law.bodies[-1]["messages"][-1]["content"] == (
        "File: rates.csv\n\n| journey | pence |\n| --- | --- |\n| by car | 45 |\n\nWhat does a mile pay?"
    )
    expect(page.locator(".asked")).to_contain_text("rates.csv")
    expect(page.locator(".composer .files")).to_have_count(0)


def test_what_does_not_fit_is_said_before_it_is_asked(page: Page) -> None:
    put(page, "long.txt", "\n".join(f"Line {number} of many." for number in range(300)))
    expect(page.get_by_role("status").filter(has_text="fits: the model sees no more")).to_be_visible()
    page.get_by_role("button", name="Without long.txt").click()
    expect(page.get_by_role("status").filter(has_text="fits")).to_have_count(0)


def test_a_question_can_be_spoken_and_its_answer_heard(context: BrowserContext, firm: Company) -> None:
    context.add_init_script(SPEECH)
    firm.law.answer = lambda body: streams("On the **27th**.", usage=(9, 1))
    page = opened(context, firm.keys["all"])
    page.get_by_role("button", name="Dictate").click()
    expect(page.get_by_label("Your question")).to_have_value("When is pay day?")
    page.get_by_role("button", name="Stop listening").click()
    ask(page, "When is pay day?", "Law")
    page.get_by_role("button", name="Read aloud").click()
    assert page.evaluate("spoken").pop().split() == ["On", "the", "27th", "."]
