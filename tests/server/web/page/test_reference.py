"""`/docs` in a browser: the API, read and tried, from this server's files alone."""

import httpx
from playwright.sync_api import BrowserContext, expect

from tests.server.web.page.conftest import Company


def test_the_api_is_read_and_tried_and_no_other_host_is_asked(context: BrowserContext, firm: Company) -> None:
    page = context.new_page()
    page.goto("/docs")
    page.get_by_role("button", name="Authorize").click()
    page.get_by_label("auth-bearer-value").fill(firm.keys["all"])
    page.get_by_role("button", name="Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    route = page.locator(".opblock", has_text="/api/me").first
    route.click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    expect(route.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")


def test_its_files_are_there_without_a_key_and_nothing_else_is(firm: Company) -> None:
    for path in ("/docs", "/docs/start.js", "/docs/vendor/swagger-ui.js", "/docs/vendor/swagger-ui.css"):
        answer = httpx.get(f"{firm.url}{path}")
        assert answer.status_code == 200
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]
    assert httpx.get(f"{firm.url}/docs/none.js").status_code == 404
