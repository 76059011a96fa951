"""What does not move on the page, and what stays visible with other colours and in print."""

import pytest
from playwright.sync_api import Route, expect

from tests.browser.layout_shift import MOST_SHIFT, OBSERVE, layout_shift
from tests.browser.page_actions import Opened, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
@pytest.mark.parametrize("rows", [0, 3, 60])
def test_loading_moves_nothing(
    service: Service, opened: Opened, width: int, height: int, rows: int
) -> None:
    project = f"shift-{width}-{rows}"
    service.project(project)
    gate = service.gate(project)
    for n in range(rows):
        service.build(project, f"b{n % 20}", job("unit", *gate.commands), message=f"Number {n}")
    page = opened(viewport={"width": width, "height": height})
    page.add_init_script(OBSERVE)
    sign_in(page, service)
    page.reload()
    expect(page.locator("#connection")).to_have_text("Live")
    if rows:
        expect(page.locator("#running .row")).to_have_count(2)
    expect(page.locator(".skeleton")).to_be_hidden()
    assert layout_shift(page) < MOST_SHIFT, page.evaluate("window.shifts")
    service.stop_everything()


def test_a_slow_service_moves_nothing(service: Service, opened: Opened) -> None:
    """The placeholder until it answers is about as high as the content."""
    page = opened(viewport={"width": 1280, "height": 900})
    page.add_init_script(OBSERVE)
    sign_in(page, service)
    service.project("slow")
    service.build("slow", "main")
    held: list[Route] = []
    let = [False]
    page.route("**/api/v1/activity", lambda r: r.continue_() if let[0] else held.append(r))
    page.reload()
    skeleton = page.locator(".skeleton")
    expect(skeleton).to_be_visible()
    box = skeleton.bounding_box()
    assert box is not None and box["height"] > 500
    let[0] = True
    held[0].continue_()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(skeleton).to_be_hidden()
    assert layout_shift(page) < MOST_SHIFT, page.evaluate("window.shifts")


def test_opening_a_row_and_errors_move_the_page_little(service: Service, opened: Opened) -> None:
    page = opened(viewport={"width": 1280, "height": 900})
    page.add_init_script(OBSERVE)
    sign_in(page, service)
    service.project("opens")
    for n in range(4):
        message = f"Opens {n}"
        id_ = service.build("opens", f"b{n}", job("a", "true"), job("b", "true"), message=message)
        service.finished(id_)
    expect(page.locator("#finished .row", has_text="Opens")).to_have_count(4)
    page.reload()
    expect(page.locator("#connection")).to_have_text("Live")
    page.locator("#finished .row-title").first.click()
    expect(page.locator(".panel .jobs tbody tr")).to_have_count(2)
    page.route("**/api/v1/activity", lambda route: route.fulfill(status=503, body="{}"))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#banner")).to_be_visible()
    assert layout_shift(page) < MOST_SHIFT, page.evaluate("window.shifts")
    page.unroute("**/api/v1/activity")


@pytest.mark.parametrize("how", ["forced", "print"])
def test_the_bar_is_visible_with_forced_colours_and_in_print(
    service: Service, opened: Opened, how: str
) -> None:
    page = opened(viewport={"width": 1000, "height": 700}, reduced_motion="reduce")
    page.emulate_media(
        forced_colors="active" if how == "forced" else "none",
        media="print" if how == "print" else "screen",
    )
    sign_in(page, service)
    service.project(how)
    gate = service.gate(how)
    service.build(how, "main", job("unit", *gate.commands))
    bar = page.get_by_role("meter")
    expect(bar).to_have_attribute("aria-valuenow", "1")
    expect(bar).to_be_visible()
    assert bar.evaluate("bar => getComputedStyle(bar).borderTopWidth") == "1px"
    fill, ground = (
        page.locator(part).evaluate("part => getComputedStyle(part).backgroundColor")
        for part in (".bar-fill", ".bar")
    )
    assert fill != ground
    if how == "print":
        assert bar.evaluate("bar => getComputedStyle(bar).printColorAdjust") == "exact"
        wide = bar.bounding_box()
        assert wide is not None and wide["width"] > 500
        runs = page.locator("#running .row")
        expect(runs.get_by_role("button", name="Stop")).to_be_hidden()
    gate.open()
    service.stop_everything()
