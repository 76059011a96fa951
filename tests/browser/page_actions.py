"""Actions on the page that many tests use."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.service import Service

Opened = Callable[..., Page]
Run = Callable[..., Any]  # of the fixture ``js``


def sign_in(page: Page, service: Service, token: str | None = None) -> None:
    """Sign in; as an admin, unless a token is given."""
    page.goto(service.url)
    page.get_by_label("Token").fill(token or service.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#connection")).to_have_text("Live")
    # A reload would lose this, so every test can check that the page is still the same one.
    page.evaluate("window.sameSince = true")


def row(page: Page, list_name: str, text: str) -> Locator:
    """Return the rows of a list that show this text."""
    return page.locator(f"#{list_name} .row").filter(has_text=text)


def go(page: Page, service: Service, view: str) -> Locator:
    page.goto(f"{service.url}/{view}")
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#view[aria-busy]")).to_have_count(0)
    return page.locator("#view")


def thing(page: Page, text: str) -> Locator:
    return page.locator(".thing").filter(has_text=text)


def clear(service: Service) -> None:
    """End all pauses and workloads, and delete the projects that allow it."""
    for pause in service.call("GET", "/pauses")["pauses"]:
        service.call("DELETE", f"/pauses/{pause['name']}")
    service.stop_everything()
    for project in service.call("GET", "/projects")["projects"]:
        service.call("DELETE", f"/projects/{project['name']}", also=[409])
