"""The service is away: the page says so, its clocks stop, and nobody seems signed out.

Also what the browser's tab shows.
"""

import json
from collections.abc import Iterator

import attrs
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.load_balancer import Ask, load_balancer
from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.browser

ICON = 'link[rel="icon"]'


@pytest.fixture
def proxied(service: Service) -> Iterator[tuple[Service, Proxy, Ask]]:
    """The service behind an address that can be taken away."""
    with load_balancer(service) as (proxy, ask):
        yield attrs.evolve(service, port=proxy.port), proxy, ask
    service.stop_everything()


def icon(page: Page) -> str:
    name = page.locator(ICON).get_attribute("href")
    assert name is not None
    return name.rpartition("/")[2]


def test_while_it_is_away_a_banner_reports_it_and_the_clocks_stop(
    service: Service, proxied: tuple[Service, Proxy, Ask], opened: Opened
) -> None:
    there, proxy, ask = proxied
    service.project("clocks")
    gate = service.gate("clocks")
    service.build("clocks", "main", job("unit", *gate.commands), message="Goes on")
    page = opened()
    sign_in(page, there)
    running = row(page, "running", "Goes on")
    clock = running.locator(".clock-time")
    said = clock.inner_text()
    expect(clock).not_to_have_text(said)  # it counts

    ask(proxy.refuse())
    banner = page.locator("#banner")
    expect(banner).to_contain_text("What you see is of")
    expect(banner).to_contain_text("Trying again")
    expect(page).to_have_title("▲ Away · Activity Monitor")
    assert icon(page) == "icon-trouble.svg"
    expect(page.locator("#connection")).to_have_text("Reconnecting")
    turning = running.locator(".turning").first
    expect(turning).to_have_css("animation-name", "none")
    stopped = page.evaluate(STANDS_STILL, ["#running .clock-time", 3])
    assert len(set(stopped)) == 1
    assert page.evaluate("window.sameSince")

    ask(proxy.heal())
    expect(banner).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(clock).not_to_have_text(stopped[0])
    expect(page).to_have_title("1/2 Boxes · Activity Monitor")
    assert icon(page) == "icon.svg"
    gate.open()
    expect(row(page, "finished", "Goes on")).to_be_visible()


# The text of an element at several ticks of the page's clock, which ticks every second.
STANDS_STILL = """async ([selector, ticks]) => {
    const said = [];
    for (let tick = 0; tick < ticks; tick += 1) {
        await new Promise((done) => setTimeout(done, 1001 - Date.now() % 1000));
        said.push(document.querySelector(selector).textContent);
    }
    return said;
}"""


def test_no_user_is_signed_out_while_the_service_is_away(
    proxied: tuple[Service, Proxy, Ask], opened: Opened
) -> None:
    there, proxy, ask = proxied
    page = opened()
    sign_in(page, there)
    ask(proxy.refuse())
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#notice")).to_contain_text(
        "You are still signed in: the service cannot be reached."
    )
    expect(page.get_by_role("heading", name="Activity Monitor")).to_be_visible()
    assert page.evaluate("window.sameSince")
    ask(proxy.heal())
    expect(page.locator("#connection")).to_have_text("Live")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_an_answer_of_503_is_not_a_sign_out(service: Service, page: Page) -> None:
    away = json.dumps({"error": {"code": "store_away", "message": "The database is away."}})

    def refuse(route: Route) -> None:
        route.fulfill(status=503, body=away)

    page.route("**/sign-out", refuse)
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#notice")).to_contain_text("You are still signed in")
    assert page.evaluate("window.sameSince")


def test_an_open_row_stays_open_when_the_service_returns(
    service: Service, proxied: tuple[Service, Proxy, Ask], opened: Opened
) -> None:
    there, proxy, ask = proxied
    service.project("back")
    id_ = service.build("back", "main", message="Linked while away")
    service.finished(id_)
    page = opened()
    sign_in(page, there)
    ask(proxy.refuse())
    expect(page.locator("#banner")).to_be_visible()
    page.goto(f"{there.url}/#w123456789")  # in no list: the service has to be asked
    expect(page.locator("#notice")).to_be_hidden()
    ask(proxy.heal())
    expect(page.locator("#notice")).to_contain_text("There is no workload w123456789 here.")
    page.goto(f"{there.url}/#{id_}")
    expect(page.locator(f"#{id_} .panel")).to_be_visible()


def test_the_tab_shows_failures_until_the_branch_passes_again(
    service: Service, opened: Opened
) -> None:
    page = opened()
    sign_in(page, service)
    expect(page).to_have_title("0/2 Boxes · Activity Monitor")
    assert icon(page) == "icon.svg"
    service.project("tab")
    service.build("tab", "main", job("unit", "exit 1"))
    expect(page).to_have_title("✕ 1 failed · 0/2 Boxes · Activity Monitor")
    assert icon(page) == "icon-failed.svg"
    service.build("tab", "other", job("unit", "exit 1"))
    expect(page).to_have_title("✕ 2 failed · 0/2 Boxes · Activity Monitor")
    page.reload()
    expect(page).to_have_title("✕ 2 failed · 0/2 Boxes · Activity Monitor")
    service.build("tab", "main")
    expect(page).to_have_title("✕ 1 failed · 0/2 Boxes · Activity Monitor")
    service.build("tab", "other")
    expect(page).to_have_title("0/2 Boxes · Activity Monitor")
    assert icon(page) == "icon.svg"


def test_the_tab_shows_absent_workers(service: Service, opened: Opened) -> None:
    page = opened()

    def answer(route: Route) -> None:
        told = route.fetch().json()
        boxes = {"total": 8, "busy": 3, "away": 2, "away_busy": 1}
        route.fulfill(body=json.dumps({**told, "finished": [], "boxes": boxes}))

    page.route("**/api/v1/activity", answer)
    sign_in(page, service)
    expect(page).to_have_title("▲ 6 of 8 Boxes available · Activity Monitor")
    assert icon(page) == "icon-trouble.svg"


def test_the_icons_exist(service: Service, page: Page) -> None:
    for name in ("data-failed", "data-trouble"):
        address = page.locator(ICON).get_attribute(name)
        answer = page.request.get(f"{service.url}{address}")
        assert answer.ok and answer.headers["content-type"] == "image/svg+xml"
