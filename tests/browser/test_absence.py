"""Workers that are away: the capacity that is shown, and the jobs whose state is unknown."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

LISTS = ("upcoming", "blocked", "running", "finished")
WORKLOAD = {
    "id": "w990001", "project": "web", "number": 8, "kind": "build", "branch": "main", "tag": None,
    "server": None, "commit": None, "message": "On its own", "author": None, "result": None,
    "priority": 50, "created_at": "2026-01-01T00:00:00.000000Z", "finished_at": None, "boxes": 2,
    "queued_at": "2026-01-01T00:00:00.000000Z", "build": None, "rebuild_of": None,
}  # fmt: skip


def shows(page: Page, boxes: dict[str, int], **lists: object) -> None:
    """From now on the page receives this."""

    def answer(route: Route) -> None:
        told: dict[str, Any] = route.fetch().json()
        empty: dict[str, object] = {name: [] for name in LISTS}
        route.fulfill(body=json.dumps({**told, **empty, **lists, "boxes": boxes}))

    page.unroute_all()
    page.route("**/api/v1/activity", answer)


def test_boxes_that_are_away_do_not_count_as_capacity(service: Service, opened: Opened) -> None:
    page = opened(viewport={"width": 1280, "height": 900})
    shows(page, {"total": 8, "busy": 3, "away": 2, "away_busy": 1})
    sign_in(page, service)
    expect(page.locator("#capacity-text")).to_have_text("2/6 Boxes")
    expect(page.locator("#capacity-note")).to_have_text("6 of 8 available")
    meter = page.get_by_role("meter")
    expect(meter).to_have_attribute("aria-valuetext", "2 of 6 Boxes busy, 2 more not available")
    expect(page.get_by_role("button", name="Fleet")).to_contain_text("6 of 8 Boxes available")
    away = page.locator(".bar-away").bounding_box()
    bar = meter.bounding_box()
    assert away is not None and bar is not None
    assert away["width"] / bar["width"] == pytest.approx(2 / 8, abs=0.01)


def test_without_any_worker_no_capacity_is_shown(service: Service, opened: Opened) -> None:
    page = opened(viewport={"width": 420, "height": 900})
    why = "Its worker (builder-1) is away: the state of 2 jobs is unknown."
    started = {"started_at": "2026-01-01T00:00:01.000000Z"}
    running = {**WORKLOAD, **started, "state": "running", "why": why}
    shows(page, {"total": 8, "busy": 2, "away": 8, "away_busy": 2}, running=[running])
    sign_in(page, service)
    expect(page.locator("#capacity-text")).to_have_text("0 of 8 Boxes available")
    expect(page.locator("#capacity-note")).to_be_hidden()
    expect(row(page, "running", "On its own")).to_contain_text(why)
    expect(row(page, "running", "On its own")).to_have_attribute("data-mark", "unknown")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_with_all_workers_present_nothing_is_reported(page: Page) -> None:
    expect(page.locator("#capacity-text")).to_have_text("0/2 Boxes")
    expect(page.locator("#capacity-note")).to_be_hidden()
    expect(page.locator("#fleet-warning")).to_be_hidden()


IN_A_SENTENCE = """async ([module, time, sentence]) => {
  const {setClock, inLocalTime} = await import(module);
  setClock({headers: new Headers({Date: time})});
  return inLocalTime(sentence);
}"""


@pytest.mark.parametrize(
    ("now", "said", "at_the_reader"),
    [
        ("Sun, 29 Nov 2026 03:00:00 GMT", "2026-11-29T03:04:05Z", "08:34"),
        ("Sun, 29 Nov 2026 20:00:00 GMT", "2026-11-29T20:10:00Z", "01:40"),  # Monday for both
        ("Sun, 29 Nov 2026 18:20:00 GMT", "2026-11-29T18:40:00Z", "30 Nov, 00:10"),
        ("Sun, 29 Nov 2026 18:20:00 GMT", "2027-01-31T02:30:00+01:00", "31 Jan 2027, 07:00"),
        ("Sun, 29 Nov 2026 18:20:00 GMT", "2026-99-29T18:40:00Z", "2026-99-29T18:40:00Z"),
    ],
)
def test_times_in_sentences_use_the_readers_time_zone(
    service: Service, opened: Opened, now: str, said: str, at_the_reader: str
) -> None:
    page = opened(timezone_id="Asia/Kolkata", locale="en-GB")
    page.goto(service.url)
    module = page.evaluate("new URL('times.js', document.querySelector('script[src]').src).href")
    sentence = page.evaluate(IN_A_SENTENCE, [module, now, f"It is to start by {said}."])
    assert sentence == f"It is to start by {at_the_reader}."


def test_a_row_shows_times_in_the_readers_time_zone(service: Service, opened: Opened) -> None:
    page = opened(timezone_id="Asia/Kolkata", locale="en-GB")
    soon = datetime.now(UTC) + timedelta(minutes=10)
    why = f"Would fit now, but would delay build #7, which starts by {soon:%Y-%m-%dT%H:%M:%SZ}."
    queued = {**WORKLOAD, "started_at": None, "state": "queued", "why": why}
    shows(page, {"total": 8, "busy": 2}, blocked=[queued])
    sign_in(page, service)
    there = soon.astimezone(ZoneInfo("Asia/Kolkata"))  # with its day if that is another one
    expected = re.compile(rf"which starts by ({there.day} \w+, )?{there:%H:%M}\.")
    expect(row(page, "blocked", "On its own")).to_contain_text(expected)


def test_an_open_row_shows_its_name(service: Service, page: Page) -> None:
    service.project("names")
    service.build("names", "main", message="Has a name")
    row(page, "finished", "Has a name").get_by_role("button", name="Has a name").click()
    expect(page.locator("#finished .panel > .facts")).to_contain_text("names#1")
    expect(page.locator("#finished .panel > .facts")).to_contain_text("Submitted byadmin")


def test_a_job_whose_worker_is_away_is_resolved(service: Service, page: Page) -> None:
    """The service says that its worker is connected, which the dialog shows; then it accepts."""
    gate = service.gate("resolve")
    service.project("resolved")
    build = service.build("resolved", "main", job("ship", *gate.commands), message="Ship it")

    def unknown(route: Route) -> None:
        told: dict[str, Any] = route.fetch().json()
        told["jobs"][0]["state"] = "unknown"
        route.fulfill(body=json.dumps(told))

    page.route(f"**/api/v1/workloads/{build}", unknown)
    row(page, "running", "Ship it").get_by_role("button", name="Ship it").click()
    page.get_by_role("button", name="Resolve ship").click()
    dialog = page.get_by_role("dialog", name="What is the result of ship?")
    dialog.get_by_label("It passed").check()
    dialog.get_by_label("Why").fill("seen by hand")
    dialog.get_by_role("button", name="Resolve").click()
    expect(dialog.get_by_role("alert")).to_contain_text("worker is connected")

    sent: list[Any] = []

    def taken(route: Route) -> None:
        sent.append(route.request.post_data_json)
        route.fulfill(status=202, body=json.dumps(service.workload(build)))

    page.route(f"**/api/v1/jobs/{build}-1/resolve", taken)
    dialog.get_by_role("button", name="Resolve").click()
    expect(dialog).to_be_hidden()
    assert sent == [{"result": "passed", "note": "seen by hand"}]
    gate.open()
