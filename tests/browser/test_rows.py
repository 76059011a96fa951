"""A row: its colour by its state, why it failed, how long it took, and how to run it again."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

GOOD, BAD = "rgb(42, 117, 64)", "rgb(176, 47, 40)"


def test_passed_jobs_of_a_failed_build_are_not_red(service: Service, page: Page) -> None:
    service.project("mixed")
    service.build(
        "mixed", "main", job("well", "true"), job("badly", "exit 3"), message="Half of it"
    )
    failed = row(page, "finished", "Half of it")
    failed.get_by_role("button", name="Half of it", exact=True).click()
    passed_job = failed.locator(".jobs tr").filter(has_text="well")
    failed_job = failed.locator(".jobs tr").filter(has_text="badly")
    expect(passed_job.locator(".mark")).to_have_css("color", GOOD)
    expect(failed_job.locator(".mark")).to_have_css("color", BAD)
    expect(failed_job.locator(".job-state")).to_have_css("color", BAD)
    expect(failed.locator(".row-head .mark")).to_have_css("color", BAD)
    ink = page.evaluate("getComputedStyle(document.body).color")
    expect(passed_job.locator(".job-state")).to_have_css("color", ink)


def test_a_failed_job_of_a_running_build_is_red(service: Service, page: Page) -> None:
    service.project("going")
    gate = service.gate("going")
    jobs = job("waits", *gate.commands), job("badly", "exit 3")
    service.build("going", "main", *jobs, message="Half done")
    running = row(page, "running", "Half done")
    running.get_by_role("button", name="Half done", exact=True).click()
    failed_job = running.locator(".jobs tr").filter(has_text="badly")
    expect(failed_job.locator(".mark")).to_have_css("color", BAD)
    gate.open()


def test_a_failed_row_shows_the_reason(service: Service, page: Page) -> None:
    service.project("whys")
    service.build("whys", "main", job("unit", "exit 3"), message="Breaks")
    why = row(page, "finished", "Breaks").locator(".row-why")
    expect(why).to_contain_text("unit")
    expect(why).to_contain_text("exit status 3")
    expect(why).to_have_css("color", BAD)
    told = why.inner_text()
    page.reload()
    expect(row(page, "finished", "Breaks").locator(".row-why")).to_have_text(told)


def test_a_superseded_row_names_its_successor(service: Service, page: Page) -> None:
    service.project("newer", cancellation=[["*", "queued"]])
    gate = service.gate("newer")
    service.build("newer", "main", job("unit", *gate.commands), message="Runs")
    service.build("newer", "main", message="Is overtaken")
    service.build("newer", "main", message="Is newer")
    why = row(page, "finished", "Is overtaken").locator(".row-why")
    expect(why).to_contain_text("superseded by newer#3")
    row(page, "finished", "Is overtaken").locator(".row-title").click()
    job_state = row(page, "finished", "Is overtaken").locator(".job-state").first
    expect(job_state).to_contain_text("canceled")
    expect(job_state).not_to_contain_text("superseded")  # the reason stands above, once
    gate.open()


def test_durations_are_shown_in_words(service: Service, opened: Opened) -> None:
    page = opened()
    sign_in(page, service)
    service.project("words")
    service.build("words", "main", message="Takes a moment")
    took = row(page, "finished", "Takes a moment").locator(".clock")
    expect(took).to_have_text(re.compile(r"^took \d+ s$"))


def test_a_build_is_run_again_with_a_click(service: Service, page: Page) -> None:
    service.project("again")
    first = service.build("again", "main", job("unit", "exit 1"), message="Once more")
    row(page, "finished", "Once more").get_by_role("button", name="Rebuild").click()
    notice = page.locator("#notice")
    expect(notice).to_contain_text("build #1 of again was submitted again: build #2 of again")
    expect(row(page, "finished", "Once more")).to_have_count(2)
    notice.get_by_role("link").click()
    second = page.locator(".row.open")
    expect(second).to_contain_text("build #2")
    assert second.get_attribute("id") != first
    expect(notice).to_be_hidden()
    second_id = second.get_attribute("id")
    assert service.workload(str(second_id))["rebuild_of"] == first


def test_a_deploy_is_run_again_after_a_question(service: Service, page: Page) -> None:
    service.project("deploys", servers={"production": {"jobs": [job("copy", "true")]}})
    service.call("POST", "/projects/deploys/deploys", {"server": "production"})
    done = row(page, "finished", "Deploy to production")
    expect(done).to_have_count(1)
    done.get_by_role("button", name="Redeploy").focus()
    page.keyboard.press("r")
    dialog = page.get_by_role("dialog", name="Deploy to production again?")
    dialog.get_by_role("button", name="Leave it").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#notice")).to_be_hidden()
    done.get_by_role("button", name="Redeploy").click()
    dialog.get_by_role("button", name="Deploy again").click()
    expect(done).to_have_count(2)


def test_a_workload_that_cannot_be_rebuilt_shows_the_reason(service: Service, page: Page) -> None:
    service.project("gone")
    service.build("gone", "main", message="Of a project that goes")
    done = row(page, "finished", "Of a project that goes")
    expect(done).to_have_count(1)
    service.call("DELETE", "/projects/gone")
    done.get_by_role("button", name="Rebuild").click()
    expect(page.locator("#notice")).to_contain_text(
        "build #1 of gone was not submitted again: its project was deleted"
    )
