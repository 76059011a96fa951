"""Actions on the page that many tests use."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.browser.service import Service

Opened = Callable[..., Page]


def sign_in(page: Page, service: Service) -> None:
    page.goto(service.url)
    page.get_by_label("Token").fill(service.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#connection")).to_have_text("Live")
    # A reload would lose this, so every test can check that the page is still the same one.
    page.evaluate("window.sameSince = true")


def row(page: Page, list_name: str, text: str) -> Locator:
    """Return the rows of a list that show this text."""
    return page.locator(f"#{list_name} .row").filter(has_text=text)
