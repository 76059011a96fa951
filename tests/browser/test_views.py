"""The pages beside the lists: servers, pauses, notifications, schedules; and changing a
priority."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.layout_shift import MOST_SHIFT, OBSERVE, layout_shift
from tests.browser.page_actions import Opened, clear, go, row, sign_in, thing
from tests.browser.service import HOSTILE, Service, job, serving

pytestmark = pytest.mark.browser

VIEWS = {
    "servers": "Servers",
    "schedules": "Schedules",
    "pauses": "Pauses",
    "deliveries": "Deliveries",
    "notifications": "Notifications",
}
SHIPS = {"jobs": [job("copy", "true")]}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving("--allow-outgoing", "127.0.0.1") as service:
        yield service


@pytest.fixture
def page(service: Service, opened: Opened) -> Iterator[Page]:
    page = opened(viewport={"width": 1280, "height": 900})
    sign_in(page, service)
    yield page
    clear(service)


def deployed(service: Service, project: str, server: str, build: str) -> str:
    body = {"server": server, "build": build}
    deploy = str(service.call("POST", f"/projects/{project}/deploys", body)["id"])
    service.finished(deploy)
    return deploy


def passed(service: Service, project: str, message: str) -> str:
    build = service.build(project, "main", message=message)
    service.finished(build)
    return build


@pytest.mark.parametrize("width", [375, 800, 1280])
def test_the_pages_link_to_one_another(service: Service, opened: Opened, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800})
    sign_in(page, service)
    links = page.get_by_role("navigation", name="Pages")
    for view, title in VIEWS.items():
        links.get_by_role("link", name=title).click()
        expect(page).to_have_url(f"{service.url}/{view}")
        expect(page).to_have_title(f"{title} · boxsched")
        expect(page.get_by_role("heading", name=title, level=1)).to_be_attached()
        expect(links.locator("[aria-current=page]")).to_have_text([title])
        expect(page.locator("#view[aria-busy]")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for link in links.get_by_role("link").all():
            box = link.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    links.get_by_role("link", name="Activity").click()
    expect(page.locator("#lists")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [1280, 390])
def test_loading_moves_nothing(service: Service, page: Page, view: str, width: int) -> None:
    service.project("still", servers={"production": SHIPS})
    service.call("PUT", "/pauses/still", {"note": "why", "project": "still"})
    page.set_viewport_size({"width": width, "height": 844})
    page.add_init_script(OBSERVE)
    go(page, service, view)
    assert layout_shift(page) < MOST_SHIFT, page.evaluate("window.shifts")


def test_without_a_session_each_page_shows_the_form_and_then_itself(
    service: Service, opened: Opened
) -> None:
    page = opened()
    page.goto(f"{service.url}/pauses")
    page.get_by_label("Token").fill(service.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Nothing is paused")).to_be_visible()
    expect(page).to_have_url(f"{service.url}/pauses")


def test_a_session_that_ended_is_renewed_on_the_page(service: Service, page: Page) -> None:
    go(page, service, "pauses")
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    dialog = page.get_by_role("dialog", name="Signed out")
    dialog.get_by_label("Token").fill(service.token)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Live")


# --- Servers --------------------------------------------------------------------------------


def test_live_deploys_appear_by_themselves(service: Service, page: Page) -> None:
    service.project("web", servers={"production": SHIPS, "staging": SHIPS})
    build = passed(service, "web", "Faster search")
    go(page, service, "servers")
    expect(thing(page, "production")).to_contain_text("nothing is live yet")
    deploy = deployed(service, "web", "production", build)
    expect(thing(page, "production")).to_contain_text("live: Faster search")
    expect(thing(page, "production")).to_contain_text("deployed by admin")
    link = thing(page, "production").get_by_role("link", name="#1", exact=True)
    expect(link).to_have_attribute("href", f"/#{build}")
    expect(thing(page, "staging")).to_contain_text("nothing is live yet")
    service.call("PUT", "/pauses/freeze", {"note": "release week", "project": "web"})
    expect(thing(page, "staging")).to_contain_text(
        "Paused in the whole project: release week (freeze, by admin"
    )
    waits = service.call("POST", "/projects/web/deploys", {"server": "staging", "build": build})
    expect(thing(page, "staging").locator(".thing-waiting")).to_contain_text(f"#{waits['number']}")
    thing(page, "staging").get_by_role("button", name="Resume").click()
    page.get_by_role("dialog", name="Resume all of web?").get_by_role(
        "button", name="Resume"
    ).click()
    expect(thing(page, "staging")).to_contain_text("live: Faster search")
    expect(page.locator("#notice")).to_contain_text("The pause freeze has ended.")
    thing(page, "production").get_by_role("link", name="Faster search").click()
    expect(page).to_have_url(f"{service.url}/#{deploy}")


def test_a_server_without_automatic_deploys_names_the_reason(service: Service, page: Page) -> None:
    narrow = {"jobs": [job("a", "true"), job("b", "true")], "strategy": "automatic"}
    service.project("narrow", servers={"production": narrow}, max_boxes=1)
    view = go(page, service, "servers")
    expect(view).to_contain_text("No automatic deploys: it needs 2 Boxes; its project may use 1")
    service.project("narrow", servers={"production": narrow}, max_boxes=2)
    page.reload()
    expect(thing(page, "production")).to_contain_text("nothing is live yet")
    expect(view).not_to_contain_text("No automatic deploys")


def test_the_panel_of_a_deploy_links_to_its_build_and_names_a_rollback(
    service: Service, page: Page
) -> None:
    service.project("panel", servers={"production": SHIPS})
    older, newer = passed(service, "panel", "Older"), passed(service, "panel", "Newer")
    deployed(service, "panel", "production", newer)
    back = deployed(service, "panel", "production", older)
    page.goto(f"{service.url}/#{back}")
    facts = page.locator(".row.open .panel > .facts")
    expect(facts).to_contain_text("Rollbackyes: to an older build than was live")
    facts.get_by_role("link", name=older, exact=True).click()
    expect(page).to_have_url(f"{service.url}/#{older}")
    expect(page.locator(".row.open")).to_contain_text("Older")
    expect(facts).not_to_contain_text("Rollback")


def test_a_passed_build_is_deployed_and_an_older_one_is_called_a_rollback(
    service: Service, page: Page
) -> None:
    follows = {**SHIPS, "strategy": "automatic", "branch": "main"}
    service.project("back", servers={"production": follows})
    older, newer = passed(service, "back", "Older"), passed(service, "back", "Newer")
    go(page, service, "servers")
    expect(thing(page, "production")).to_contain_text("live: Newer")
    button = page.get_by_role("button", name="Deploy to production of back")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Deploy to production of back")
    choice = dialog.get_by_role("combobox", name="Build")
    expect(choice).to_have_value(newer)
    expect(dialog).to_contain_text("This build is live: it is deployed once more.")
    choice.select_option(older)
    expect(dialog).to_contain_text("a rollback. Automatic deploys are paused then")
    dialog.get_by_role("button", name="Deploy").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#notice")).to_contain_text("The deploy to production was submitted")
    expect(thing(page, "production")).to_contain_text("live: Older")
    expect(thing(page, "production")).to_contain_text("rollback")
    [deploy] = service.call("GET", "/projects/back/servers")["servers"]
    link = page.locator("#notice").get_by_role("link")
    expect(link).to_have_attribute("href", f"/#{deploy['live']['id']}")


def test_all_pauses_of_a_server_are_shown_and_each_asks_before_it_ends(
    service: Service, page: Page
) -> None:
    service.project("web", servers={"production": SHIPS})
    service.call("PUT", "/pauses/kernel", {"note": "new kernel"})
    mine = {"note": "release week", "project": "web", "server": "production", "automatic": True}
    service.call("PUT", "/pauses/freeze", mine)
    go(page, service, "servers")
    production = thing(page, "production")
    expect(production).to_contain_text("Automatic deploys paused: release week (freeze, by admin")
    expect(production).to_contain_text("Paused everywhere: new kernel (kernel, by admin")
    production.get_by_role("button", name="Resume: end the pause kernel").click()
    dialog = page.get_by_role("dialog", name="Resume everything?")
    expect(dialog).to_contain_text(
        "This ends the pause kernel of everything, not only of one server"
    )
    expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert len(service.call("GET", "/pauses")["pauses"]) == 2
    production.get_by_role("button", name="Resume: end the pause freeze").click()
    dialog = page.get_by_role("dialog", name="Resume automatic deploys of web to production?")
    dialog.get_by_role("button", name="Resume").click()
    expect(production).not_to_contain_text("release week")
    expect(production).to_contain_text("Paused everywhere")
    [left] = service.call("GET", "/pauses")["pauses"]
    assert left["name"] == "kernel"


def test_the_control_that_has_the_focus_stays_visible(service: Service, page: Page) -> None:
    service.project("web", servers={"production": SHIPS})
    build = passed(service, "web", "Comes")
    go(page, service, "servers")
    button = page.get_by_role("button", name="Deploy to production of web")
    button.focus()
    deployed(service, "web", "production", build)
    expect(thing(page, "production")).to_contain_text("live: Comes")
    expect(button).to_be_focused()


# --- Notifications --------------------------------------------------------------------------


def test_failed_notifications_are_listed_by_state_and_sent_again(
    service: Service, page: Page
) -> None:
    service.project("told", hooks=[{"url": "http://127.0.0.1:9/hook"}])
    build = passed(service, "told", "Told")
    go(page, service, "notifications")
    waits = thing(page, "told#1")
    expect(waits.get_by_role("link", name="told#1")).to_have_attribute("href", f"/#{build}")
    expect(waits).to_contain_text("to hook 127.0.0.1:9")
    expect(waits).to_contain_text("not signed: the hook has no secret")
    expect(waits.locator(".thing-error")).to_be_visible()
    waits.get_by_role("button", name="Send now").click()
    expect(page.locator("#notice")).to_contain_text("workload.finished of told#1 is sent again.")
    page.get_by_role("button", name="Given up").click()
    expect(page.get_by_text("There are none that are given up.")).to_be_visible()
    expect(page).to_have_url(f"{service.url}/notifications?state=dead")
    page.reload()
    expect(page.get_by_role("button", name="Given up")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Waiting").click()
    expect(thing(page, "told#1")).to_be_visible()


def test_older_notifications_are_shown_on_request(service: Service, page: Page) -> None:
    def answer(route: Route) -> None:
        second = "cursor=" in route.request.url
        numbers = range(50, 70) if second else range(50)
        found = [{**SENT, "id": str(n), "workload": f"w{n + 1}", "number": n + 1} for n in numbers]
        body = {"notifications": found, "next_cursor": None if second else "more"}
        route.fulfill(body=json.dumps(body))

    page.route("**/api/v1/notifications?*", answer)
    go(page, service, "notifications")
    expect(page.locator(".thing")).to_have_count(50)
    expect(thing(page, "web#50")).to_contain_text("given up")
    page.get_by_role("button", name="Show older ones").click()
    expect(page.locator(".thing")).to_have_count(70)
    expect(page.get_by_role("button", name="Show older ones")).to_be_hidden()


SENT = {
    "project": "web", "kind": "hook", "provider": None, "url": None, "host": "example.org",
    "event": "workload.finished", "at": "2026-01-02T03:04:05.000006Z", "state": "dead",
    "attempts": 30, "next_try_at": None, "status": 500, "error": "answered 500",
    "done_at": "2026-01-03T03:04:05.000006Z",
}  # fmt: skip


# --- Changing a priority ------------------------------------------------------------------------


def test_the_priority_of_a_waiting_workload_is_changed(service: Service, page: Page) -> None:
    service.project("bumped")
    gate = service.gate("bump")
    service.build("bumped", "main", job("a", *gate.commands), job("b", *gate.commands))
    build = service.build("bumped", "topic", message="Has to wait")
    title = row(page, "blocked", "Has to wait").locator(".row-title")
    title.click()
    page.get_by_role("button", name="Change its priority").click()
    dialog = page.get_by_role("dialog", name="Priority of build #2 of bumped")
    expect(dialog.get_by_label("Priority")).to_have_value("50")
    dialog.get_by_label("Priority").fill("90")
    dialog.get_by_label("Why, for the history").fill("the fix for the outage")
    dialog.get_by_role("button", name="Change").click()
    expect(dialog).to_be_hidden()
    expect(row(page, "blocked", "Has to wait").locator(".priority")).to_be_visible()
    assert service.workload(build)["priority"] == 90

    title.focus()
    page.keyboard.press("p")
    expect(dialog.get_by_label("Priority")).to_have_value("90")
    gate.open()
    expect(dialog.get_by_role("alert")).to_have_text(
        "It has begun, so its priority has no effect any more."
    )
    expect(dialog.get_by_role("button", name="Change")).to_be_disabled()
    dialog.get_by_role("button", name="Leave it").click()
    expect(row(page, "finished", "Has to wait")).to_be_visible()


# --- Schedules ------------------------------------------------------------------------------


def test_schedules_show_their_next_time_and_update_by_themselves(
    service: Service, page: Page
) -> None:
    go(page, service, "schedules")
    expect(page.get_by_text("No project has schedules")).to_be_visible()
    expect(page.locator(".nothing code")).to_have_text("schedules")
    hostile = HOSTILE["script"]
    schedules = [
        {"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "branch": "main"},
        {"cron": "@hourly", "branch": hostile},
    ]
    service.project("nightly", schedules=schedules)
    nightly = thing(page, "30 2 * * *")
    expect(nightly).to_contain_text("At 02:30 every day")
    expect(nightly).to_contain_text("Europe/Berlin")
    expect(nightly.locator("time")).to_have_count(3)
    expect(thing(page, "@hourly")).to_contain_text(hostile)
    assert page.locator("#view :is(img, script, iframe)").count() == 0
    service.project("nightly", schedules=schedules[:1])
    expect(page.locator(".thing")).to_have_count(1)
