"""The page of pauses."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.page_actions import Opened, clear, go, sign_in, thing
from tests.browser.service import HOSTILE, Service, job, serving

pytestmark = pytest.mark.browser


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


# --- Pauses ---------------------------------------------------------------------------------


def test_everything_is_paused_for_a_while_and_resumed(service: Service, page: Page) -> None:
    go(page, service, "pauses")
    page.get_by_role("button", name="Pause …").click()
    dialog = page.get_by_role("dialog", name="Pause")
    dialog.get_by_label("Name").fill("kernel")
    dialog.get_by_label("Reason, shown to everyone").fill("new kernel")
    dialog.get_by_role("combobox", name="Ends").select_option("30")
    dialog.get_by_role("button", name="Pause").click()
    expect(dialog).to_be_hidden()
    expect(thing(page, "kernel")).to_contain_text("everything")
    [pause] = service.call("GET", "/pauses")["pauses"]
    assert (pause["note"], pause["project"]) == ("new kernel", None)
    assert pause["until"] is not None
    page.get_by_role("button", name="Resume: end the pause kernel").click()
    dialog = page.get_by_role("dialog", name="Resume everything?")
    expect(dialog).to_contain_text("new kernel (kernel, by page)")
    dialog.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Nothing is paused")).to_be_visible()
    assert service.call("GET", "/pauses")["pauses"] == []


@pytest.mark.parametrize(
    ("what", "field", "asked", "shown"),
    [
        ("project", None, {}, "all of web"),
        ("branch", "Branches that match", {"branch": "release/*"}, "builds of release/* in web"),
        ("server", None, {"server": "production"}, "deploys of web to production"),
    ],
)
def test_a_part_is_paused(
    service: Service, page: Page, what: str, field: str | None, asked: dict[str, str], shown: str
) -> None:
    service.project("web", servers={"production": SHIPS})
    go(page, service, "pauses")
    page.get_by_role("button", name="Pause …").click()
    dialog = page.get_by_role("dialog", name="Pause")
    dialog.get_by_label("Name").fill(what)
    dialog.get_by_label("Reason, shown to everyone").fill("why")
    dialog.get_by_role("combobox", name="Pause").select_option(what)
    expect(dialog.get_by_role("combobox", name="Project")).to_have_value("web")
    if field:
        dialog.get_by_label(field).fill(asked["branch"])
    dialog.get_by_role("combobox", name="Ends").select_option("at")
    dialog.get_by_label("Time", exact=True).fill("2099-12-31T18:00")
    dialog.get_by_role("button", name="Pause").click()
    expect(thing(page, what)).to_contain_text(shown)
    expect(thing(page, what)).to_contain_text("2099")
    [pause] = service.call("GET", "/pauses")["pauses"]
    assert {name: pause[name] for name in asked} == asked
    assert pause["project"] == "web"


def test_a_refusal_is_shown_in_the_form(service: Service, page: Page) -> None:
    go(page, service, "pauses")
    page.get_by_role("button", name="Pause …").click()
    dialog = page.get_by_role("dialog", name="Pause")
    dialog.get_by_label("Name").fill("late")
    dialog.get_by_label("Reason, shown to everyone").fill("why")
    dialog.get_by_role("combobox", name="Ends").select_option("at")
    dialog.get_by_label("Time", exact=True).fill("2020-01-01T00:00")
    page.route("**/api/v1/pauses/late", _refuse)
    dialog.get_by_role("button", name="Pause").click()
    expect(dialog.get_by_role("alert")).to_have_text("is in the past")
    expect(dialog.get_by_label("Name")).to_have_value("late")
    page.unroute("**/api/v1/pauses/late")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def _refuse(route: Route) -> None:
    """Refuse as the service does; the real status would be a browser error."""
    said = {"error": {"code": "conflict", "message": "is in the past", "field": "until"}}
    route.fulfill(status=409, body=json.dumps(said))


def test_pauses_of_other_users_appear_and_disappear_by_themselves(
    service: Service, page: Page
) -> None:
    go(page, service, "pauses")
    service.call("PUT", "/pauses/theirs", {"note": "by somebody else"})
    expect(thing(page, "theirs")).to_contain_text("by somebody else")
    service.call("DELETE", "/pauses/theirs")
    expect(page.get_by_text("Nothing is paused")).to_be_visible()


def test_any_text_is_shown_as_text(service: Service, page: Page) -> None:
    note = HOSTILE["image"]
    service.call("PUT", "/pauses/hostile", {"note": note})
    service.project("web", servers={HOSTILE["script"]: SHIPS})
    go(page, service, "pauses")
    expect(thing(page, "hostile")).to_contain_text(note)
    go(page, service, "servers")
    expect(thing(page, HOSTILE["script"])).to_contain_text(note)
    assert page.locator("#view :is(img, script, iframe)").count() == 0
