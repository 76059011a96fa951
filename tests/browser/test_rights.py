"""What a role may not do is not offered, neither by a button nor by a key."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import Opened, go, row, sign_in, thing
from tests.browser.service import Json, Service, job

pytestmark = pytest.mark.browser
HOLD = job("hold", "sleep 600")


def signed_in(service: Service, opened: Opened, **asked: object) -> Page:
    """Return the page of somebody with such a token."""
    token = service.call("POST", "/tokens", dict(asked))["token"]
    page = opened()
    page.goto(service.url)
    sign_in(page, service, token)
    return page


def prepared(service: Service, name: str) -> Json:
    """A running build, a deploy that waits, and a finished build."""
    servers = {server: {"jobs": [HOLD]} for server in ("staging", "production")}
    service.project(name, servers=servers)
    service.call("PUT", f"/pauses/{name}", {"project": name, "server": "staging", "note": "later"})
    done = service.build(name, "done", message=f"{name} done")
    service.finished(done)
    service.build(name, "main", HOLD, message=f"{name} runs")
    body = {"server": "staging", "message": f"{name} deploy"}
    return service.call("POST", f"/projects/{name}/deploys", body)


@pytest.mark.parametrize(
    ("asked", "build", "again", "deploy"),
    [
        ({"role": "viewer"}, False, False, False),
        ({"role": "developer", "servers": ["staging"]}, True, True, False),
        ({"role": "operator"}, True, True, True),
    ],
    ids=lambda value: value["role"] if isinstance(value, dict) else "",
)
def test_rows_offer_only_what_the_role_may_do(
    service: Service, opened: Opened, asked: Json, build: bool, again: bool, deploy: bool
) -> None:
    name = f"rows-{asked['role']}"
    prepared(service, name)
    page = signed_in(service, opened, **asked)
    for list_, text, button, offered in (
        ("running", f"{name} runs", "Stop", build),
        ("finished", f"{name} done", "Rebuild", again),
        ("blocked", f"{name} deploy", "Cancel", deploy),
    ):
        one = row(page, list_, text)
        expect(one).to_be_visible()
        expect(one.get_by_role("button", name=button)).to_be_visible(visible=offered)
    # The keys of the same actions.
    row(page, "blocked", f"{name} deploy").locator(".row-title").focus()
    page.keyboard.press("s")
    expect(page.locator("#stop-dialog")).to_be_visible(visible=deploy)
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    expect(page.locator("#bump-dialog")).to_be_visible(visible=deploy)
    for one in service.call("GET", f"/workloads?project={name}")["workloads"]:
        service.call("POST", f"/workloads/{one['id']}/stop", {}, also=(409,))


def test_the_other_pages_offer_only_what_the_role_may_do(service: Service, opened: Opened) -> None:
    service.project("views", servers={name: {"jobs": [HOLD]} for name in ("staging", "live")})
    service.call("PUT", "/pauses/views", {"project": "views", "server": "live", "note": "n"})
    for asked, pauses, deploys in (
        ({"role": "viewer"}, False, {"staging": False, "live": False}),
        ({"role": "developer"}, False, {"staging": False, "live": False}),
        ({"role": "developer", "servers": ["staging"]}, False, {"staging": True}),
        ({"role": "operator", "projects": ["views"]}, True, {"staging": True, "live": True}),
    ):
        page = signed_in(service, opened, **asked)
        view = go(page, service, "servers")
        part = view.locator(".project-part").filter(has_text="views")
        expect(part.locator("[data-key=staging]")).to_be_visible()
        for server in ("staging", "live"):
            offer = part.get_by_role("button", name=f"Deploy to {server} of views")
            expect(offer).to_be_visible(visible=deploys.get(server, False))
        expect(part).to_contain_text("staging")
        view = go(page, service, "pauses")
        expect(view.get_by_role("button", name="Pause …")).to_be_visible(visible=pauses)
        if "servers" not in asked:
            resume = thing(page, "views").get_by_role("button", name="Resume")
            expect(resume).to_be_visible(visible=pauses)
        page.context.close()
    service.call("DELETE", "/pauses/views")


def test_the_fleet_shows_workers_to_everybody_and_offers_actions_to_operators(
    service: Service, opened: Opened
) -> None:
    for asked, nodes, drains in (
        ({"role": "viewer"}, True, False),
        ({"role": "operator"}, True, True),
        ({"role": "operator", "projects": ["none-*"]}, False, False),
    ):
        page = signed_in(service, opened, **asked)
        page.locator("#fleet-button").click()
        dialog = page.get_by_role("dialog", name="Nodes and workers")
        expect(dialog.locator("#fleet-workers")).to_contain_text("in-process")
        expect(dialog.locator("#fleet-nodes")).to_be_visible(visible=nodes)
        drain = dialog.get_by_role("button", name="Drain in-process")
        expect(drain).to_be_visible(visible=drains)
        page.context.close()


def test_another_token_brings_other_rights(service: Service, opened: Opened) -> None:
    name = "rights-change"
    service.project(name)
    build = service.build(name, "main", HOLD, message="Whose rights")
    page = signed_in(service, opened, role="viewer")
    stop = row(page, "running", "Whose rights").get_by_role("button", name="Stop")
    expect(row(page, "running", "Whose rights")).to_be_visible()
    expect(stop).to_be_hidden()
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    dialog = page.get_by_role("dialog", name="Signed out")
    dialog.get_by_label("Token").fill(service.token)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    expect(stop).to_be_visible()
    service.call("POST", f"/workloads/{build}/stop", {})
