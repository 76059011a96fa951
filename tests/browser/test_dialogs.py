"""A dialog whose question is answered meanwhile: it says so, and offers nothing else."""

import json
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser


def asks_to_stop(page: Page, list_name: str, title: str, what: str) -> Locator:
    row(page, list_name, title).get_by_role("button", name=f"{what} build").click()
    dialog = page.locator("#stop-dialog")
    expect(dialog).to_be_visible()
    return dialog


def can_only_close(dialog: Locator) -> None:
    expect(dialog.get_by_role("button")).to_have_count(1)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_a_workload_that_has_ended_need_not_be_stopped(service: Service, page: Page) -> None:
    service.project("ends")
    gate = service.gate("ends")
    service.build("ends", "main", job("unit", *gate.commands), message="Ends by itself")
    dialog = asks_to_stop(page, "running", "Ends by itself", "Stop")
    gate.open()
    expect(dialog.get_by_role("heading")).to_have_text("build #1 of ends has ended: passed.")
    can_only_close(dialog)


def test_a_job_that_starts_in_the_meantime_would_be_stopped(service: Service, page: Page) -> None:
    service.project("begins")
    first, second = service.gate("begins-1"), service.gate("begins-2")
    service.build("begins", "main", job("unit", *first.commands), message="The first")
    service.build("begins", "main", job("unit", *second.commands), message="The second")
    dialog = asks_to_stop(page, "upcoming", "The second", "Cancel")
    expect(dialog.get_by_role("heading")).to_have_text("Cancel build #2 of begins?")
    first.open()
    expect(dialog.get_by_role("heading")).to_have_text("Stop build #2 of begins?")
    dialog.get_by_role("button", name="Stop the build").click()
    expect(dialog).to_be_hidden()
    expect(row(page, "finished", "The second")).to_contain_text("stopped")
    second.open()


def test_the_dialog_notices_that_another_user_stops_the_workload(
    service: Service, page: Page
) -> None:
    service.project("others")
    gate = service.gate("others")
    held = job("unit", "trap '' TERM", *gate.commands)
    id_ = service.build("others", "main", held, message="Theirs")
    dialog = asks_to_stop(page, "running", "Theirs", "Stop")
    service.call("POST", f"/workloads/{id_}/stop")
    heading = dialog.get_by_role("heading")
    expect(heading).to_have_text("build #1 of others is being stopped already.")
    gate.open()
    expect(heading).to_have_text("build #1 of others has ended: stopped.")
    can_only_close(dialog)


@pytest.mark.parametrize("status", [404, 409])
def test_the_service_knows_before_the_page_that_it_has_ended(
    service: Service, page: Page, status: int
) -> None:
    project = f"first-{status}"
    service.project(project)
    gate = service.gate(project)
    service.build(project, "main", job("unit", *gate.commands), message="Is over")
    error = json.dumps({"error": {"code": "conflict", "message": "it has finished"}})
    page.route("**/stop", lambda route: route.fulfill(status=status, body=error))
    dialog = asks_to_stop(page, "running", "Is over", "Stop")
    dialog.get_by_role("button", name="Stop the build").click()
    expect(dialog.get_by_role("heading")).to_have_text(f"build #1 of {project} has ended.")
    can_only_close(dialog)
    gate.open()


def test_a_job_whose_worker_is_back_cannot_be_resolved(service: Service, page: Page) -> None:
    service.project("heard")
    gate = service.gate("heard")
    build = service.build("heard", "main", job("ship", *gate.commands), message="Is heard")

    def unknown(route: Route) -> None:
        told: dict[str, Any] = route.fetch().json()
        told["jobs"][0]["state"] = "unknown"
        route.fulfill(body=json.dumps(told))

    page.route(f"**/api/v1/workloads/{build}", unknown)
    row(page, "running", "Is heard").get_by_role("button", name="Is heard").click()
    page.get_by_role("button", name="Resolve ship").click()
    dialog = page.locator("#resolve-dialog")
    expect(dialog.get_by_label("It passed")).to_be_visible()
    page.unroute(f"**/api/v1/workloads/{build}")
    gate.open()
    expect(dialog.get_by_role("heading")).to_have_text("ship has ended: passed.")
    expect(dialog.get_by_label("It passed")).to_be_hidden()
    can_only_close(dialog)


def test_the_dialog_reports_that_the_project_of_a_deploy_was_deleted(
    service: Service, page: Page
) -> None:
    service.project("going", servers={"production": {"jobs": [job("copy", "true")]}})
    deploy = service.call("POST", "/projects/going/deploys", {"server": "production"})["id"]
    service.finished(deploy)
    page.locator(f"#{deploy} .row-title").click()
    page.locator(f"#{deploy}").get_by_role("button", name="Redeploy").click()
    service.call("DELETE", "/projects/going")
    dialog = page.get_by_role("dialog", name="Deploy to production again?")
    dialog.get_by_role("button", name="Deploy again").click()
    expect(page.locator("#notice")).to_contain_text("its project was deleted")
    # its history is there
    expect(page.locator(f"#{deploy} .panel .jobs tbody tr")).to_have_count(1)


def test_an_open_row_that_is_no_longer_in_any_list(service: Service, page: Page) -> None:
    """Either so many have finished since that no list has it, or it does not exist."""
    service.project("vanishes")
    gate = service.gate("vanishes")
    id_ = service.build("vanishes", "main", job("unit", *gate.commands), message="Vanishes")
    page.locator(f"#{id_} .row-title").click()
    expect(page.locator(".row.open .jobs tbody tr")).to_have_count(1)
    known = service.workload(id_)

    def without(route: Route) -> None:
        told: dict[str, Any] = route.fetch().json()
        route.fulfill(body=json.dumps({**told, "running": []}))

    over = {**known, "state": "finished", "result": "passed", "finished_at": known["started_at"]}
    page.route(f"**/api/v1/workloads/{id_}", lambda route: route.fulfill(body=json.dumps(over)))
    page.route("**/api/v1/activity", without)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(f"#finished #{id_} .panel .jobs tbody tr")).to_have_count(1)

    page.unroute(f"**/api/v1/workloads/{id_}")
    page.unroute("**/api/v1/activity")
    page.goto(f"{service.url}/?again=1#{id_}")
    expect(page.locator(f"#running #{id_} .panel .jobs tbody tr")).to_have_count(1)
    nowhere = json.dumps({"error": {"code": "not_found", "message": "there is no such workload"}})
    page.route(f"**/api/v1/workloads/{id_}", lambda route: route.fulfill(status=404, body=nowhere))
    page.route("**/api/v1/activity", without)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#notice")).to_contain_text(f"There is no workload {id_} here.")
    expect(page.locator(".row.open")).to_have_count(0)
    gate.open()


def test_signing_in_on_another_tab_signs_in_here(service: Service, opened: Opened) -> None:
    page = opened()
    sign_in(page, service)
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    dialog = page.get_by_role("dialog", name="Signed out")
    expect(dialog).to_be_visible()
    other = page.context.new_page()
    sign_in(other, service)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(dialog).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Live")
    assert page.evaluate("window.sameSince")
