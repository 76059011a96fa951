"""Nothing on the pages is wider than the viewport of a phone, however long the names are."""

import json

import pytest
from playwright.sync_api import Page, expect

from activity_monitor.pages import VIEWS
from tests.browser.page_actions import Opened, go, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

WIDTH = 390
LONG = "a-long-name-without-any-space-" * 4
NODE = {
    "id": "1", "name": LONG, "url": f"http://{LONG}:8080", "version": "1.20.3", "alive": True,
    "shards": [1, 3], "me": True, "started_at": "2026-01-02T03:04:05.000006Z",
}  # fmt: skip
WORKER = {
    "id": "1", "name": LONG, "address": "2001:db8:1234:5678:9abc:def0:1234:5678", "boxes": 64,
    "state": "connected", "builds": 12, "deploys": 3, "ssh_sessions": 2, "seen_at": None,
    "problem": f"No space is left on the disk of /{LONG}",
}  # fmt: skip
# Also what a box hides, or lets one scroll to.
WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((node) => node.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map((node) => `${node.tagName} ${node.id} ${node.textContent.slice(0, 40)}`)"""
ONCE_FLAKY = '[ "$BOXSCHED_ATTEMPT" = 2 ]'


def fits(page: Page) -> None:
    assert page.evaluate(WIDE) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") == WIDTH


@pytest.fixture
def page(service: Service, opened: Opened) -> Page:
    page = opened(viewport={"width": WIDTH, "height": 844})
    sign_in(page, service)
    return page


def test_lists_and_an_open_row_fit_and_say_what_was_flaky(service: Service, page: Page) -> None:
    service.project("narrow")
    flaky = {**job("flaky", ONCE_FLAKY), "retry": {"any": 1}}
    service.finished(service.build("narrow", LONG, flaky, job(LONG, "true"), message=LONG))
    row = page.locator("#finished .row")
    expect(row.locator(".result")).to_have_text("passed (flaky)")
    page.reload()
    expect(row.locator(".result")).to_have_text("passed (flaky)")
    fits(page)
    row.locator(".row-title").click()
    expect(page.locator(".panel .jobs tbody tr")).to_have_count(2)
    fits(page)


def test_the_tables_of_nodes_and_workers_fit(page: Page) -> None:
    answer = json.dumps({"nodes": [NODE], "workers": [WORKER]})
    for path in ("nodes", "workers"):
        page.route(f"**/api/v1/{path}", lambda route: route.fulfill(body=answer))
    page.keyboard.press("n")
    dialog = page.get_by_role("dialog", name="Nodes and workers")
    worker = dialog.get_by_role("row").filter(has_text="cannot begin jobs")
    expect(worker.get_by_role("cell")).to_have_count(5)
    expect(dialog.get_by_role("columnheader", name="Boxes")).to_have_count(1)
    fits(page)
    assert dialog.get_by_role("button", name=f"Drain {LONG}").is_visible()


@pytest.mark.parametrize("view", [view.name for view in VIEWS])
def test_each_view_fits(service: Service, page: Page, view: str) -> None:
    service.project(LONG[:60], servers={LONG[:60]: {}})
    go(page, service, view)
    fits(page)
