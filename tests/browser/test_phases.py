"""Builds move through the page: upcoming, blocked, running, finished; without a reload."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import row
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser


def test_a_build_moves_through_the_phases_without_a_reload(service: Service, page: Page) -> None:
    service.project("phases", priority_branches=["urgent"])
    first, second = service.gate("phases-1"), service.gate("phases-2")
    service.build("phases", "main", job("unit", *first.commands), message="The first\n\nand more")
    expect(row(page, "running", "The first")).to_contain_text("1 Box")
    expect(page.locator("#capacity-text")).to_have_text("1/2 Boxes")
    expect(page.get_by_role("meter")).to_have_attribute("aria-valuenow", "1")

    service.build("phases", "main", job("unit", *second.commands), message="The second")
    expect(row(page, "upcoming", "The second")).to_contain_text("main")
    service.build("phases", "urgent", job("a", "true"), job("b", "true"), message="Wants both")
    blocked = row(page, "blocked", "Wants both")
    expect(blocked).to_contain_text("2 Boxes")
    expect(blocked.get_by_text("PRIORITY")).to_have_attribute("title", "Priority 70")
    expect(blocked.locator(".row-why")).not_to_be_empty()
    waited = blocked.locator(".clock-time").inner_text()
    expect(blocked.locator(".clock-time")).not_to_have_text(waited)  # it counts, live

    first.open()
    expect(row(page, "finished", "The first")).to_contain_text("passed")
    mark = row(page, "finished", "The first").locator(".mark").first
    expect(mark).to_have_css("color", "rgb(42, 117, 64)")  # also in a row that was moved here
    expect(row(page, "finished", "Wants both")).to_contain_text("passed")
    expect(row(page, "running", "The second")).to_be_visible()
    second.open()
    expect(row(page, "finished", "The second")).to_contain_text("passed")
    expect(page.locator("#capacity-text")).to_have_text("0/2 Boxes")
    assert page.evaluate("window.sameSince")


def test_a_waiting_row_explains_what_is_ahead_of_it(service: Service, page: Page) -> None:
    service.project("reasons")
    gate = service.gate("reasons")
    ahead = service.build("reasons", "main", job("unit", *gate.commands), message="Is in front")
    service.build("reasons", "main", message="Has to wait")
    row(page, "upcoming", "Has to wait").get_by_role("button", name="Has to wait").click()
    panel = page.locator("#upcoming .panel")
    expect(panel.get_by_role("heading", name="Why it waits")).to_be_visible()
    expect(panel.locator(".explanation-text")).not_to_have_text("Loading the reason …")
    panel.get_by_role("link").first.click()
    expect(page.locator(f"#{ahead} .row-title")).to_be_focused()
    expect(page.locator(f"#{ahead} .panel")).to_be_visible()
    gate.open()


def test_a_log_is_shown_live_with_colours_and_without_control_sequences(
    service: Service, page: Page
) -> None:
    service.project("logs")
    gate = service.gate("logs")
    output = (
        r"printf '\033[1;31mred\033[0m plain \033]0;title\007\033[2Jend\n'",
        r"printf 'first\rsecond\n'",
        "echo '<img src=x onerror=alert(1)>'",
    )
    service.build("logs", "main", job("unit", *output, *gate.commands), message="Says things")
    row(page, "running", "Says things").get_by_role("button", name="Says things").click()
    log = page.get_by_role("region", name="Output of unit")
    expect(log.locator(".bold.f-1")).to_have_text("red")
    lines = log.locator(".log-line")
    expect(lines.filter(has_text=re.compile("^red plain end$"))).to_have_count(1)
    expect(lines.filter(has_text=re.compile("^second$"))).to_have_count(1)
    expect(lines.filter(has_text=re.compile("^first"))).to_have_count(0)
    expect(lines.filter(has_text=re.compile("^<img src=x onerror=.*>$"))).to_have_count(1)
    expect(log).not_to_contain_text("the gate is open")
    gate.open()
    expect(log).to_contain_text("the gate is open")
    expect(page.locator(".log-note")).to_contain_text("The output ends here.")
    expect(page.locator("#finished .jobs")).to_contain_text("passed")


def test_a_long_log_keeps_its_end_and_follows_until_the_reader_scrolls(
    service: Service, page: Page
) -> None:
    service.project("long")
    gate = service.gate("long")
    service.build("long", "main", job("unit", "seq 1 12000", *gate.commands), message="Counts")
    row(page, "running", "Counts").get_by_role("button", name="Counts").click()
    log = page.locator(".log-lines")
    expect(log.locator(".log-line").filter(has_text=re.compile("^12000$"))).to_have_count(1)
    expect(page.locator(".log-note")).to_contain_text("earlier lines are only in the whole log")
    assert log.locator(".log-line").count() <= 5_100
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "true")
    log.hover()
    page.mouse.wheel(0, -2_000)
    expect(follow).to_have_attribute("aria-pressed", "false")
    gate.open()
    expect(log).to_contain_text("the gate is open")
    expect(follow).to_have_attribute("aria-pressed", "false")
    follow.click()
    left = "(box) => box.scrollHeight - box.scrollTop - box.clientHeight"
    assert abs(log.evaluate(left)) < 2


def test_a_stop_asks_first_and_is_shown_until_the_job_has_ended(
    service: Service, page: Page
) -> None:
    service.project("stops")
    stubborn = ("trap 'sleep 2; exit 1' TERM", "echo up", "while true; do sleep 0.1; done")
    service.build("stops", "main", job("unit", *stubborn), message="Runs on and on")
    running = row(page, "running", "Runs on and on")
    running.get_by_role("button", name="Runs on and on").click()
    expect(page.locator(".log-lines")).to_contain_text("up")
    running.get_by_role("button", name="Stop build").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    dialog.get_by_role("button", name="Keep it").click()
    expect(running.get_by_role("button", name="Stop build")).to_be_enabled()
    running.get_by_role("button", name="Stop build").click()
    dialog.get_by_role("button", name="Stop the build").click()
    expect(running.locator(".result")).to_have_text("stopping")
    expect(running.get_by_role("button", name="Stop build")).to_be_disabled()
    expect(row(page, "finished", "Runs on and on")).to_contain_text("stopped")
    assert page.evaluate("window.sameSince")


def test_a_waiting_workload_is_canceled(service: Service, page: Page) -> None:
    service.project("cancels")
    gate = service.gate("cancels")
    service.build("cancels", "main", job("unit", *gate.commands), message="Is running")
    service.build("cancels", "main", message="Never runs")
    waiting = row(page, "upcoming", "Never runs")
    waiting.get_by_role("button", name="Cancel build").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the build").click()
    expect(row(page, "finished", "Never runs")).to_contain_text("canceled")
    gate.open()


def test_the_filter_covers_project_and_branch(service: Service, page: Page) -> None:
    service.project("filter-one")
    service.project("filter-two")
    service.build("filter-one", "main", message="Of one")
    service.build("filter-two", "feature/x", message="Of two")
    expect(row(page, "finished", "Of two")).to_be_visible()
    page.get_by_role("searchbox").fill("two FEATURE")
    expect(row(page, "finished", "Of one")).to_have_count(0)
    expect(row(page, "finished", "Of two")).to_be_visible()
    page.get_by_role("searchbox").press("Escape")
    expect(row(page, "finished", "Of one")).to_be_visible()
