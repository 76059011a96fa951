"""Contrast according to WCAG 2.2: 4.5:1 for text, 3:1 for the borders of controls."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

TEXT, BORDER = 4.5, 3.0
_NOTIFICATION = {
    "workload": "w1", "project": "web", "kind": "hook", "provider": None,
    "url": "https://example.org/x", "host": "example.org", "event": "workload.finished",
    "at": "2026-01-02T03:04:05.000006Z", "attempts": 3, "next_try_at": None, "status": 500,
    "error": "refused", "done_at": None,
}  # fmt: skip
SENT = {
    "notifications": [
        {**_NOTIFICATION, "id": str(at), "state": state}
        for at, state in enumerate(("waiting", "delivered", "dead"))
    ],
    "next_cursor": None,
}

# Every visible text and control, as [what, ratio, minimum]. A colour is read from a pixel painted
# with it, whatever notation the style has; backgrounds are layered, and an element's opacity
# applies to its text.
MEASURE = """([text, border]) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (colour, below) => {
        const alpha = colour[3];
        return below.map((part, at) => colour[at] * alpha + part * (1 - alpha));
    };
    const ground = (node) => {
        if (!node) return [255, 255, 255];
        return over(rgba(getComputedStyle(node).backgroundColor), ground(node.parentElement));
    };
    const opacity = (node) => {
        return node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1;
    };
    const linear = (part) => {
        const c = part / 255;
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    };
    const luminance = ([r, g, b]) => {
        return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    };
    const ratio = (a, b) => {
        const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05);
    };
    const faded = (colour, faint, behind) => {
        const [r, g, b, a] = rgba(colour);
        return ratio(over([r, g, b, a * faint], behind), behind);
    };
    const unseen = ".unseen, .skip, :disabled, script, noscript";
    const seen = (node) => {
        return node.checkVisibility({ visibilityProperty: true }) && !node.closest(unseen);
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const node = walk.currentNode.parentElement;
        const said = walk.currentNode.data.trim();
        if (!said || !seen(node)) continue;
        const colour = getComputedStyle(node).color;
        found.push([`"${said}"`, faded(colour, opacity(node), ground(node)), text]);
    }
    for (const line of document.querySelectorAll(".log-line")) {
        const { color, opacity: faint } = getComputedStyle(line, "::before");
        const what = `number of line ${line.dataset.n}`;
        found.push([what, faded(color, Number(faint), ground(line)), text]);
    }
    for (const node of document.querySelectorAll("button, input:not([type=checkbox]), a.whole")) {
        const { borderTopColor: colour, borderTopWidth: width } = getComputedStyle(node);
        if (!seen(node) || parseFloat(width) === 0) continue;
        const behind = ground(node.parentElement);
        const own = ratio(ground(node), behind); // a button may be told by its own ground
        if (rgba(colour)[3] === 0 && own < 1.01) continue; // or by its words alone
        const what = `border of ${node.id || node.className}`;
        found.push([what, Math.max(own, faded(colour, 1, behind)), border]);
    }
    return found;
}"""


def measured(page: Page) -> list[list[Any]]:
    found: list[list[Any]] = page.evaluate(MEASURE, [TEXT, BORDER])
    return found


def too_faint(page: Page) -> list[str]:
    return [
        f"{what}: {ratio:.2f} of {least}" for what, ratio, least in measured(page) if ratio < least
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_lists_are_legible(service: Service, opened: Opened, scheme: str) -> None:
    page = opened(
        viewport={"width": 1280, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.goto(service.url)
    expect(page.get_by_label("Token")).to_be_visible()
    assert too_faint(page) == []
    sign_in(page, service)

    project = f"contrast-{scheme}"
    service.project(project, priority_branches=["urgent"])
    gate = service.gate(project)
    says = job("says", "printf 'one\\ntwo\\n'", *gate.commands)
    service.build(project, "failed", job("unit", "exit 3"), message="Failed", author="Ada")
    service.build(project, "main", says, job("b", *gate.commands), message="Runs")
    expect(row(page, "running", project)).to_be_visible()
    service.build(project, "main", message="Comes after")
    service.build(project, "urgent", message="Has to wait")
    expect(row(page, "blocked", "Has to wait").locator(".row-why")).not_to_be_empty()
    row(page, "running", project).locator(".row-title").click()
    page.get_by_role("button", name="Log of says").click()
    expect(page.locator(".log-lines")).to_contain_text("two")
    assert too_faint(page) == []
    assert any("number of line" in what for what, _, _ in measured(page))
    assert any("border of" in what for what, _, _ in measured(page))

    page.locator("#blocked .row-title").first.click()
    expect(page.locator(".explanation .facts")).to_contain_text("Asks for")
    assert too_faint(page) == []
    page.get_by_role("button", name="Help").click()
    assert too_faint(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Fleet").click()
    expect(page.locator("#fleet-workers tbody tr")).to_have_count(1)
    assert too_faint(page) == []
    page.keyboard.press("Escape")
    page.locator("#blocked .row-title").first.focus()
    page.keyboard.press("p")
    expect(page.locator("#bump-dialog")).to_be_visible()
    assert too_faint(page) == []
    page.keyboard.press("Escape")
    page.goto(f"{service.url}/#w99999999")
    expect(page.locator("#notice")).to_be_visible()
    page.locator("#banner").evaluate(
        "banner => { banner.textContent = 'Away'; banner.hidden = false; }"
    )
    assert too_faint(page) == []
    gate.open()
    service.stop_everything()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_beside_the_lists_are_legible(
    service: Service, opened: Opened, scheme: str
) -> None:
    project = f"views-{scheme}"
    ships = {"jobs": [job("copy", "true")]}
    service.project(project, servers={"staging": ships, "production": ships})
    build = service.build(project, "main", message="Legible", author="Ada", commit="a1b2c3d4")
    service.finished(build)
    body = {"server": "staging", "build": build}
    service.finished(service.call("POST", f"/projects/{project}/deploys", body)["id"])
    pause = {"note": "why", "project": project, "server": "production", "automatic": True}
    service.call("PUT", f"/pauses/{project}", pause)
    page = opened(
        viewport={"width": 1280, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.route("**/api/v1/notifications?*", lambda route: route.fulfill(body=json.dumps(SENT)))
    sign_in(page, service)
    for view, said in (("servers", "Legible"), ("pauses", "why"), ("notifications", "refused")):
        page.goto(f"{service.url}/{view}")
        expect(page.locator("#view")).to_contain_text(said)
        assert too_faint(page) == [], view
    page.goto(f"{service.url}/pauses")
    page.get_by_role("button", name="Pause …").click()
    page.get_by_role("combobox", name="Pause").select_option("server")
    assert too_faint(page) == []
    page.goto(f"{service.url}/servers")
    page.get_by_role("button", name=f"Deploy to staging of {project}").click()
    expect(page.get_by_text("This build is live")).to_be_visible()
    assert too_faint(page) == []
    service.call("DELETE", f"/pauses/{project}")
