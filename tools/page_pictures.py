"""The pictures of the page in docs/images, taken of a server of the sample company that runs already.

    QUINTET_KEY=qk_... python -m tools.page_pictures http://127.0.0.1:8000

The key is one that asks and administers. What is shown is what the server says: its answers, numbers and times. Needs
Chromium, as the tests do.
"""

import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
HOURS = "How many hours a week do full-time staff work?"
QUESTIONS = {
    "hr": [HOURS, "When is pay day?", "Who approves overtime?"],
    "finance": ["What is the most I can spend on one purchase from petty cash?", "When is month end?"],
    "healthcare": ["How do I book an appointment?", "Where are test results kept?"],
    "marketing": ["Who answers the press?", "Which colors may a slide have?"],
}
DESKTOP, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 780}
COLOURS = 256
"""Of a picture, which are enough for text on a plain ground, and a third of the bytes."""


def main(url: str, key: str) -> None:
    """Take them all."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        views: dict[str, tuple[Callable[[Page], None], str]] = {
            "chat": (_conversation, "light"),
            "compare": (_side_by_side, "dark"),
            "experts": (_expert, "light"),
            "operations": (lambda page: _operations(page, url, key), "dark"),
        }
        _conversation(_open(browser, url, key, DESKTOP, "light"))  # so that its answers are cached, as they mostly are
        for name, (show, colours) in views.items():
            page = _open(browser, url, key, DESKTOP, colours)
            show(page)
            page.screenshot(path=IMAGES / f"page-{name}.png")
        phones = []
        for name, (show, colours) in list(views.items())[:3]:
            page = _open(browser, url, key, PHONE, colours)
            show(page)
            phones.append(IMAGES / f"page-phone-{name}.png")
            page.screenshot(path=phones[-1])
        browser.close()
    _side_by_side_in_one(phones)
    for path in IMAGES.glob("page-*.png"):
        _make_smaller(path)


def _open(browser: Browser, url: str, key: str, size: dict[str, int], colours: str) -> Page:
    context = browser.new_context(viewport=size, color_scheme=colours, reduced_motion="reduce", base_url=url)  # type: ignore[arg-type]
    context.add_init_script(f"if (location.protocol.startsWith('http')) sessionStorage.setItem('quintet.key', '{key}')")
    page = context.new_page()
    page.goto("/chat")
    page.wait_for_selector("#picker")
    return page


def _ask(page: Page, question: str, done: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(done)


def _conversation(page: Page) -> None:
    for number, question in enumerate((HOURS, QUESTIONS["finance"][0]), start=1):
        _ask(page, question, f"li.turn:nth-child({number}) .answer.done")


def _side_by_side(page: Page) -> None:
    page.evaluate("location.hash = '#/compare'")
    page.wait_for_selector(".contestants")
    _ask(page, HOURS, ".vote")
    page.locator(".vote").first.click()
    page.wait_for_selector(".round-of .note")
    page.mouse.move(0, 0)


def _expert(page: Page) -> None:
    page.evaluate("location.hash = '#/experts/hr@1'")
    page.wait_for_selector(".verdicts")


def _operations(page: Page, url: str, key: str) -> None:
    page.evaluate("location.hash = '#/operations'")
    page.wait_for_selector(".tile")
    asked = [(model, question) for model, some in QUESTIONS.items() for question in some]
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(_say, url, key, *one) for one in asked]
        while not all(one.done() for one in waiting):
            page.wait_for_timeout(500)
    page.wait_for_timeout(3000)


def _say(url: str, key: str, model: str, question: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 96}
    headers = {"Authorization": f"Bearer {key}"}
    httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120).raise_for_status()


def _side_by_side_in_one(paths: list[Path]) -> None:
    pictures = [Image.open(path).convert("RGB") for path in paths]
    gap = 24
    width = sum(one.width for one in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, pictures[0].height), "white")
    for number, one in enumerate(pictures):
        whole.paste(one, (number * (one.width + gap), 0))
    whole.save(IMAGES / "page-phone.png")
    for path in paths:
        path.unlink()


def _make_smaller(path: Path) -> None:
    picture = Image.open(path).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), os.environ["QUINTET_KEY"])
