"""The dialog of nodes and workers: which are alive, which lead, and what runs where."""

import json

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.page_actions import row as row_in
from tests.browser.service import BOXES, HOSTILE, Service, job

pytestmark = pytest.mark.browser

NODE = {
    "id": "1", "name": "ci-a", "url": "http://10.0.0.1:8080", "version": "1", "alive": True,
    "shards": [1, 3], "me": True, "started_at": "2026-01-02T03:04:05.000006Z",
}  # fmt: skip


def test_the_dialog_is_opened_from_the_status_bar(service: Service, page: Page) -> None:
    [node] = service.call("GET", "/nodes")["nodes"]
    button = page.get_by_role("button", name="Fleet", exact=True)
    button.click()
    dialog = page.get_by_role("dialog", name="Nodes and workers")
    expect(dialog).to_be_visible()
    row = dialog.get_by_role("row").filter(has=page.get_by_role("rowheader", name=node["name"]))
    expect(row).to_contain_text("this one")
    expect(row).to_contain_text("alive")
    expect(row).to_contain_text("shard 1")
    worker = dialog.get_by_role("row").filter(has_text="connected")
    expect(worker.get_by_role("cell").nth(1)).to_have_text(str(BOXES))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_the_dialog_follows_changes(service: Service, page: Page) -> None:
    service.project("fleet")
    page.keyboard.press("n")
    worker = page.locator("#fleet-workers tbody tr")
    expect(worker).to_have_count(1)
    expect(worker).not_to_contain_text("build")
    gate = service.gate("fleet")
    service.build("fleet", "main", job("unit", *gate.commands), message="Counted")
    expect(worker).to_contain_text("1 build")
    gate.open()
    expect(worker).not_to_contain_text("build")


def test_the_key_can_be_switched_off(page: Page) -> None:
    page.keyboard.press("?")
    page.get_by_label("Single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator("#fleet-dialog")).to_be_hidden()


def test_names_of_nodes_are_shown_as_text(page: Page) -> None:
    nodes = [
        {**NODE, "id": str(at), "name": text, "url": text, "version": text, "me": False}
        for at, text in enumerate(HOSTILE.values())
    ]
    worker = {
        "id": "1", "name": HOSTILE["image"], "address": HOSTILE["address"], "state": "__proto__",
        "boxes": 4, "builds": 0, "deploys": 0, "ssh_sessions": 0,
    }  # fmt: skip
    answer = {"nodes": nodes, "workers": [worker]}
    page.route("**/api/v1/nodes", lambda route: route.fulfill(body=json.dumps(answer)))
    page.route("**/api/v1/workers", lambda route: route.fulfill(body=json.dumps(answer)))
    page.keyboard.press("n")
    expect(page.locator("#fleet-nodes tbody tr")).to_have_count(len(HOSTILE))
    expect(page.locator("#fleet-nodes")).to_contain_text(HOSTILE["script"])
    expect(page.locator("#fleet-workers")).to_contain_text(HOSTILE["image"])
    # The fixture asserts: no dialog, no error on the console, nothing refused by the policy.
    assert page.locator("#fleet-dialog :is(img, script, iframe, object, style, a)").count() == 0


def test_a_worker_that_cannot_start_jobs_shows_the_reason(page: Page) -> None:
    worker = {
        "id": "1", "name": "builder-1", "address": "10.0.0.7", "state": "connected", "boxes": 4,
        "builds": 0, "deploys": 0, "ssh_sessions": 0, "seen_at": None, "problem": "disk full",
    }  # fmt: skip
    answer = json.dumps({"workers": [worker]})
    page.route("**/api/v1/workers", lambda route: route.fulfill(body=answer))
    page.keyboard.press("n")
    row = page.locator("#fleet-workers tbody tr")
    expect(row).to_contain_text("cannot begin jobs: disk full")
    expect(row.locator(".mark")).to_have_attribute("data-mark", "unknown")


def test_what_a_worker_does_not_enforce_is_shown_whole(page: Page) -> None:
    """It comes last, and notes have lines of their own."""
    enforced = (
        "isolated with bubblewrap, 2 GiB memory, 1.5 processors, 512 processes; a job may take all "
        "disk that this worker may have"
    )
    notes = [f"{n} records of jobs in quarantine, such as w{n}-1-1: the record is torn" * n
             for n in (1, 2)]  # fmt: skip
    worker = {
        "id": "1", "name": "builder-1", "address": "10.0.0.7", "state": "connected", "boxes": 4,
        "builds": 0, "deploys": 0, "ssh_sessions": 0, "seen_at": None, "problem": None,
        "enforced": enforced, "notes": notes,
    }  # fmt: skip
    answer = json.dumps({"workers": [worker]})
    page.route("**/api/v1/workers", lambda route: route.fulfill(body=answer))
    page.keyboard.press("n")
    shown = page.locator("#fleet-workers tbody tr .note")
    expect(shown).to_have_count(3)
    expect(shown.nth(0)).to_have_text(f"jobs {enforced}")
    expect(shown.nth(1)).to_have_text(notes[0])
    text = shown.nth(2).inner_text()
    assert text.endswith(" …") and notes[1].startswith(text.removesuffix(" …") + " ")


def test_the_dialog_reports_a_problem_and_tries_again(page: Page) -> None:
    away = True

    def answer(route: Route) -> None:
        if away:
            route.fulfill(status=503, body='{"error": {"code": "store_away", "message": "Away."}}')
        else:
            route.fallback()

    page.route("**/api/v1/nodes", answer)
    page.keyboard.press("n")
    expect(page.locator("#fleet-problem")).to_have_text("Away. Trying again …")
    away = False
    expect(page.locator("#fleet-nodes tbody tr")).to_have_count(1)
    expect(page.locator("#fleet-problem")).to_be_hidden()


def test_on_a_phone_nothing_is_cut_off(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Fleet", exact=True).click()
    expect(page.locator("#fleet-nodes tbody tr")).to_have_count(1)
    box = page.locator("#fleet-dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_a_worker_is_drained_and_the_drain_is_taken_back(service: Service, page: Page) -> None:
    """It is the service's own worker, which stays. Waiting workloads say why they wait."""
    service.project("drained")
    page.keyboard.press("n")
    row = page.locator("#fleet-workers tbody tr")
    row.get_by_role("button", name="Drain in-process").click()
    dialog = page.get_by_role("dialog", name="Drain in-process?")
    dialog.get_by_label("Why").fill("new kernel")
    dialog.get_by_role("button", name="Drain", exact=True).click()
    expect(dialog).to_be_hidden()
    expect(row).to_contain_text("draining")
    expect(row).to_contain_text("drained by page: new kernel")
    service.build("drained", "main", message="Waits for the kernel")
    row.get_by_role("button", name="Resume in-process").click()
    expect(row).to_contain_text("connected")
    expect(row.get_by_role("button", name="Drain in-process")).to_be_visible()
    page.keyboard.press("Escape")
    expect(row_in(page, "finished", "Waits for the kernel")).to_be_visible()


def test_the_drain_dialog_says_what_is_wrong(page: Page) -> None:
    page.route(
        "**/api/v1/workers/*/drain",
        lambda route: route.fulfill(
            status=404, body='{"error": {"code": "not_found", "message": "there is no worker"}}'
        ),
    )
    page.keyboard.press("n")
    page.get_by_role("button", name="Drain in-process").click()
    dialog = page.get_by_role("dialog", name="Drain in-process?")
    dialog.get_by_role("button", name="Drain", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text("there is no worker")
    page.keyboard.press("Escape")


def test_ghosts_are_listed_and_decided_about(page: Page) -> None:
    ghost = {
        "id": "7", "worker": "3", "worker_name": "builder-2", "connected": True, "job": "w41-1",
        "attempt": 1, "lease_token": 5, "state": "running", "since": "2026-01-02T03:04:05.000006Z",
        "workload": "w41", "project": HOSTILE["image"], "number": 9, "kind": "deploy",
        "job_name": "d", "job_state": "unknown", "job_result": None, "killed_by": None,
        "refusal": None,
    }  # fmt: skip
    finished = {**ghost, "id": "8", "job": "w42-1", "refusal": "its job has finished: failed"}
    listed = [ghost, finished]
    asked: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "POST":
            asked.append(route.request.url.rpartition("/api/v1")[2])
            listed.pop(0)
            route.fulfill(status=202, body=json.dumps(ghost), content_type="application/json")
        else:
            route.fulfill(body=json.dumps({"ghosts": listed}), content_type="application/json")

    page.route("**/api/v1/ghosts**", answer)
    page.keyboard.press("n")
    rows = page.locator("#fleet-ghosts tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text(f"deploy {HOSTILE['image']} #9: d")
    expect(rows.nth(1)).to_contain_text("its job has finished: failed")
    expect(rows.nth(1).get_by_role("button", name="Restore")).to_have_count(0)
    page.get_by_role("button", name="Restore w41-1 on builder-2").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="End w42-1 on builder-2").click()
    expect(page.locator("#fleet-ghosts-part")).to_be_hidden()
    assert asked == ["/ghosts/7/restore", "/ghosts/8/kill"]
