"""A hidden page makes few requests and does little work, and is current as soon as it is
visible."""

from collections import Counter

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

MINUTES = 10


def set_hidden(page: Page, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_page_rests_and_is_current_when_it_returns(
    service: Service, opened: Opened
) -> None:
    service.project("rests")
    gate = service.gate("rests")
    build = service.build("rests", "main", job("unit", "echo hello", *gate.commands))
    page = opened()
    page.clock.install()
    sign_in(page, service)
    page.locator(f"#{build} .row-title").click()
    log = page.get_by_role("region", name="Output of unit")
    expect(log).to_contain_text("hello")
    page.get_by_role("button", name="Fleet").click()
    expect(page.locator("#fleet-nodes tbody tr")).to_have_count(1)

    set_hidden(page, True)
    page.clock.run_for(65_000)
    expect(page.locator("#connection")).to_have_text("Paused")
    asked: Counter[str] = Counter()

    def count(request: Request) -> None:
        _, api, path = request.url.partition("/api/v1/")
        if api:  # not the icon, which may change at any time
            asked[path.partition("?")[0]] += 1

    page.on("request", count)
    clock = page.locator(f"#{build} .row-head .clock-time")
    stands = clock.inner_text()
    for _ in range(MINUTES):
        page.clock.run_for(60_000)
    assert asked["activity"] <= MINUTES + 1
    assert set(asked) <= {"activity", f"jobs/{build}-1/log"}
    assert asked[f"jobs/{build}-1/log"] <= 1  # the running one
    assert clock.inner_text() == stands

    service.build("rests", "other", message="Came meanwhile")
    gate.open()
    service.finished(build)
    set_hidden(page, False)
    page.clock.run_for(1_000)
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator(f"#finished #{build}")).to_be_attached()
    expect(row(page, "finished", "Came meanwhile")).to_be_attached()
    page.get_by_role("button", name="Close").click()
    expect(log).to_contain_text("the gate is open")
    assert page.evaluate("window.sameSince")


def test_a_page_hidden_while_the_service_is_away_recovers(service: Service, opened: Opened) -> None:
    page = opened()
    page.clock.install()
    sign_in(page, service)
    set_hidden(page, True)
    page.clock.run_for(65_000)
    page.route("**/api/v1/activity", lambda route: route.fulfill(status=503, body="{}"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(MINUTES):
        page.clock.run_for(60_000)
    assert len(asked) <= MINUTES + 1
    page.unroute("**/api/v1/activity")
    set_hidden(page, False)
    page.clock.run_for(1_000)
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#banner")).to_be_hidden()
