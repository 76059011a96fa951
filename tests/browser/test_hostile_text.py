"""Branches, messages, authors and jobs of any name are shown as text (S16, S17)."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.service import HOSTILE, Service, job

pytestmark = pytest.mark.browser

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def test_no_script_runs_from_any_text(service: Service, page: Page) -> None:
    service.project("hostile")
    gate = service.gate("hostile")
    for text in HOSTILE.values():
        service.build(
            "hostile", text, job(text, "true"), job(f"{text} 2", "true"), job("c", "true"),
            message=f"{text}\n\n{text}", author=text,
        )  # fmt: skip
    service.build("hostile", "main", job(HOSTILE["image"], *gate.commands), message="Runs")
    rows = page.locator("#blocked .row")
    expect(rows).to_have_count(len(HOSTILE))
    for at, text in enumerate(HOSTILE.values()):
        row = rows.nth(at)
        if text.isascii():
            expect(row.locator(".place-text")).to_have_text(text)
            expect(row.locator(".row-title")).to_have_text(text)
        row.locator(".row-title").click()
        expect(row.locator(".jobs tbody tr")).to_have_count(3)
        expect(row.locator(".panel .message")).to_be_visible()
        row.hover()
    page.keyboard.press("Escape")
    rows.first.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE["image"])
    page.keyboard.press("Escape")
    gate.open()
    # The fixture asserts: no dialog, no error on the console, nothing refused by the policy.
    assert page.locator("#lists :is(img, script, iframe, object, style, base, meta)").count() == 0


def test_characters_that_turn_the_writing_direction_are_made_visible(
    service: Service, page: Page
) -> None:
    service.project("turned")
    service.build("turned", HOSTILE["bidi"], message="Turned")
    place = page.locator("#finished .row").filter(has_text="Turned").locator(".place-text")
    expect(place).to_have_text("mainU+202Egnp.liveU+2066xU+2069")
    expect(place.locator(".odd")).to_have_count(3)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/static/none/app.js", "/static/none/nothing"])
def test_every_answer_has_strict_security_headers(service: Service, page: Page, path: str) -> None:
    headers = page.request.get(service.url + path).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"


def test_a_session_cannot_be_used_from_another_site(service: Service, page: Page) -> None:
    service.project("forged")
    gate = service.gate("forged")
    workload = service.build("forged", "main", job("unit", *gate.commands), message="Goes on")
    forged = {"Origin": "https://example.invalid", "Sec-Fetch-Site": "cross-site"}
    answer = page.request.post(f"{service.url}/api/v1/workloads/{workload}/stop", headers=forged)
    assert answer.status == 403
    assert page.request.post(f"{service.url}/sign-out", headers=forged).status == 403
    try:
        assert service.workload(workload)["state"] in ("registered", "queued", "running")
    finally:
        gate.open()
