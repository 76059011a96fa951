"""A service and a Chromium for tests that use the page as a person does."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    expect,
    sync_playwright,
)

from tests.browser.page_actions import Opened, Run, sign_in
from tests.browser.service import Service, serving

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WAIT_MS = 20_000  # for a busy machine

# A page records what its policy has refused; the fixture reads it at the end of each test.
WATCH = """
window.refusals = [];
document.addEventListener("securitypolicyviolation",
    (event) => window.refusals.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium per module: Playwright's loop must be gone before any asyncio test runs."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Opens a page; at the end it must have had no dialog, error or refusal."""
    contexts: list[BrowserContext] = []
    trouble: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        trouble.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            trouble.append(message.text)

    def open_page(**options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.on("dialog", dismissed)
        page.on("pageerror", lambda error: trouble.append(f"error {error}"))
        page.on("console", said)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            trouble.extend(_refusals(page))
        context.close()
    assert [what for what in trouble if not _expected(what)] == []


def _refusals(page: Page) -> list[str]:
    try:
        return [f"refused {what}" for what in page.evaluate("window.refusals ?? []")]
    except Error:
        return []  # the page was left in the middle of a navigation


def _expected(what: str) -> bool:
    """A browser reports every refusal, 503 and broken connection as an error; some tests are about
    those."""
    known = ("401", "403", "404", "409", "503", "net::ERR_")
    return what.startswith("Failed to load resource") and any(why in what for why in known)


@pytest.fixture
def page(service: Service, opened: Opened) -> Iterator[Page]:
    """The Activity Monitor, signed in and live, on a desktop."""
    page = opened(viewport={"width": 1280, "height": 900})
    sign_in(page, service)
    yield page
    service.stop_everything()


@pytest.fixture(scope="module")
def js(service: Service, browser: Any) -> Run:
    """Run a function with the modules that it names: ``js("ansi", "(m, text) => ...", text)``."""
    page: Page = browser.new_page()
    page.goto(service.url)
    page.evaluate(
        """() => {
            const base = document.querySelector("script[type=module]").src;
            window.module = (name) => import(new URL(`./${name}.js`, base));
        }"""
    )

    def run(name: str, function: str, *given: object) -> Any:
        call = f"async (given) => ({function})(await window.module('{name}'), ...given)"
        return page.evaluate(call, list(given))

    return run
