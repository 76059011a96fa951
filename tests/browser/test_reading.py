"""The page with the keyboard, a screen reader, on a phone, and while the service has problems."""

import json

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.page_actions import Opened, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

PHONE = {"width": 360, "height": 740}
LONG = "a-branch-name-without-any-place-to-break-it-" * 5


def test_an_empty_page_says_how_to_start(service: Service, page: Page) -> None:
    activity = service.call("GET", "/activity") | {
        "upcoming": [], "blocked": [], "running": [], "finished": [],
    }  # fmt: skip
    page.route("**/api/v1/activity", lambda route: route.fulfill(body=json.dumps(activity)))
    page.reload()
    expect(page.get_by_role("heading", name="The queue is empty.")).to_be_visible()
    expect(page.get_by_text("boxsched build web --branch main")).to_be_visible()


def test_a_notice_about_lost_data_after_a_failover_stays_until_it_is_closed(
    service: Service, page: Page
) -> None:
    notice = {"at": "2026-01-02T03:04:05.000000Z", "text": "The database failed over."}
    activity = service.call("GET", "/activity") | {"notice": notice}
    page.route("**/api/v1/activity", lambda route: route.fulfill(body=json.dumps(activity)))
    page.reload()
    said = page.get_by_role("status").filter(has_text="The database failed over.")
    expect(said).to_be_visible()
    said.get_by_role("button", name="Close").click()
    expect(said).to_be_hidden()
    with page.expect_response("**/api/v1/activity"):
        page.reload()
    expect(page.locator("#capacity-text")).to_be_visible()
    expect(said).to_be_hidden()


def test_rows_are_opened_with_the_keyboard(service: Service, page: Page) -> None:
    service.project("keys")
    gate = service.gate("keys")
    service.build("keys", "main", job("unit", *gate.commands), message="First row")
    service.build("keys", "main", message="Second row")
    expect(page.locator("#upcoming .row")).to_have_count(1)
    expect(page.locator("#running .row")).to_have_count(1)
    page.keyboard.press("j")
    second = page.get_by_role("button", name="Second row", exact=True)
    expect(second).to_be_focused()
    page.keyboard.press("ArrowDown")
    first = page.get_by_role("button", name="First row", exact=True)
    expect(first).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(second).to_have_attribute("aria-expanded", "true")
    gate.open()  # the row moves from list to list; it stays open, and keeps the focus
    expect(page.locator("#finished").get_by_role("button", name="Second row")).to_be_focused()
    expect(second).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(second).to_have_attribute("aria-expanded", "false")
    expect(second).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and words")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_a_workload_is_stopped_with_the_keyboard(service: Service, page: Page) -> None:
    service.project("key-stops")
    gate = service.gate("key-stops")
    service.build("key-stops", "main", job("unit", *gate.commands), message="Goes by key")
    expect(page.locator("#running .row")).to_have_count(1)
    page.keyboard.press("3")
    page.keyboard.press("s")
    expect(page.get_by_role("dialog")).to_contain_text("Goes by key")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#finished .row").filter(has_text="Goes by key")).to_contain_text("stopped")


def test_the_page_has_landmarks_headings_and_names(page: Page) -> None:
    expect(page.get_by_role("banner")).to_be_visible()
    expect(page.get_by_role("main")).to_be_visible()
    expect(page.get_by_role("search")).to_be_visible()
    expect(page.get_by_role("navigation", name="Lists")).to_be_visible()
    expect(page.get_by_role("meter")).to_have_attribute("aria-valuetext", "0 of 2 Boxes busy")
    for name in ("Upcoming", "Blocked", "Running", "Recently finished"):
        assert page.get_by_role("heading", name=name, include_hidden=True).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(service: Service, opened: Opened, scheme: str) -> None:
    page = opened(viewport=PHONE, color_scheme=scheme)
    sign_in(page, service)
    project = f"phone-{scheme}"
    service.project(project)
    gate = service.gate(project)
    commands = (f"echo {'x' * 3_000}", *gate.commands)
    service.build(project, LONG, job(LONG, *commands), message=LONG, author=LONG)
    service.build(project, LONG, message="Waits")
    page.locator("#running .row-title").first.click()
    expect(page.locator(".log-lines")).to_contain_text("xxx")
    assert sideways(page) == 0
    page.locator("#upcoming .row-title").first.click()
    expect(page.locator(".explanation-text")).not_to_have_text("Loading the reason …")
    assert sideways(page) == 0
    gate.open()
    expect(page.locator("#finished .row").filter(has_text="Waits")).to_be_visible()
    assert sideways(page) == 0


def test_help_on_a_phone_starts_at_its_beginning(service: Service, opened: Opened) -> None:
    page = opened(viewport={"width": 375, "height": 500})
    sign_in(page, service)
    page.get_by_role("button", name="Help").click()
    expect(page.get_by_role("heading", name="Keys and words")).to_be_in_viewport(ratio=1)
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()


def sideways(page: Page) -> int:
    root = "document.documentElement"
    return int(page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))


def test_while_the_database_is_away_the_page_reports_it_and_recovers(
    service: Service, page: Page
) -> None:
    away = json.dumps({"error": {"code": "store_away", "message": "The database is away."}})

    def refuse(route: Route) -> None:
        route.fulfill(status=503, body=away)

    page.route("**/api/v1/activity", refuse)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alert").first).to_contain_text("The database is away.")
    page.unroute("**/api/v1/activity", refuse)
    expect(page.locator("#banner")).to_be_hidden()
    assert page.evaluate("window.sameSince")


def test_a_broken_connection_is_shown_and_nothing_is_missed(service: Service, page: Page) -> None:
    service.project("broken")
    page.context.set_offline(True)
    # What was open stays open when offline: only a new start of the stream shows it.
    page.route("**/api/v1/events", lambda route: route.abort())
    page.context.set_offline(False)
    page.reload()
    expect(page.locator("#connection")).to_have_text("Reconnecting")
    service.build("broken", "main", message="Came meanwhile")
    page.unroute("**/api/v1/events")
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#finished .row").filter(has_text="Came meanwhile")).to_be_visible()
