"""Addresses: links to rows inside and outside of the lists, the browser's Back button, the
filter."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, job

pytestmark = pytest.mark.browser

SHOWN_FINISHED = 30


@pytest.fixture(scope="module")
def old(service: Service) -> str:
    """A build that is no longer in any list, because so many finished after it."""
    service.project("old")
    first = service.build("old", "first", message="Long ago")
    later = [service.build("old", f"b{n}") for n in range(SHOWN_FINISHED + 2)]
    service.finished(later[-1])
    service.finished(first)
    return first


def open_row(page: Page, id_: str) -> None:
    expect(page.locator(f"#{id_} .panel .jobs tbody tr").first).to_be_visible()
    expect(page.locator(".row.open")).to_have_count(1)


def test_a_link_to_a_build_that_finished_long_ago_opens_it(
    service: Service, old: str, opened: Opened
) -> None:
    page = opened()
    sign_in(page, service)
    expect(page.locator("#finished .row")).not_to_have_count(0)
    expect(page.locator(f"#{old}")).to_have_count(0)
    page.goto(f"{service.url}/#{old}")  # the page is there already: only the address changes
    open_row(page, old)
    expect(page.locator(f"#{old}")).to_contain_text("Long ago")
    page.keyboard.press("Escape")
    expect(page.locator(f"#{old}")).to_have_count(0)
    page.goto(f"{service.url}/?x=1#{old}")  # a new page
    open_row(page, old)
    expect(page.locator(f"#{old} .row-title")).to_be_focused()


def test_a_link_leads_through_the_sign_in_form(service: Service, old: str, opened: Opened) -> None:
    page = opened()
    page.goto(f"{service.url}/?filter=old#{old}")
    page.get_by_label("Token").fill(service.token)
    page.get_by_role("button", name="Sign in").click()
    open_row(page, old)
    expect(page.get_by_role("searchbox")).to_have_value("old")


@pytest.mark.parametrize("id_", ["w987654321", "w0", "nothing", "w12/../w1", "..", "%", "w1%00"])
def test_a_link_to_an_unknown_row_reports_it(service: Service, opened: Opened, id_: str) -> None:
    page = opened()
    sign_in(page, service)
    page.goto(f"{service.url}/#{id_}")
    expect(page.locator("#notice")).to_contain_text("There is no workload")
    expect(page.locator(".row.open")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_address_without_a_page_leads_to_the_list(
    service: Service, opened: Opened, scheme: str
) -> None:
    page = opened(color_scheme=scheme, viewport={"width": 375, "height": 700})
    page.goto(f"{service.url}/w987654321")
    page.get_by_label("Token").fill(service.token)
    with page.expect_navigation() as reloaded:
        page.get_by_role("button", name="Sign in").click()
    assert reloaded.value is not None and reloaded.value.status == 404
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.get_by_role("link", name="Go to w987654321 in the list").click()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#notice")).to_contain_text("There is no workload w987654321 here.")
    page.goto(f"{service.url}/web-99")
    page.get_by_role("link", name="Go to the list").click()
    expect(page.locator("#connection")).to_have_text("Live")


def test_a_link_to_a_row_that_the_filter_hides_opens_it(service: Service, page: Page) -> None:
    service.project("hidden")
    id_ = service.build("hidden", "main", message="Hidden by the filter")
    service.finished(id_)
    page.goto(f"{service.url}/?filter=nothing-like-it#{id_}")
    open_row(page, id_)
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page).to_have_url(f"{service.url}/#{id_}")


def test_back_and_forward_go_through_the_opened_rows(service: Service, page: Page) -> None:
    service.project("steps")
    ids = [service.build("steps", branch, message=f"Of {branch}") for branch in ("one", "two")]
    for id_ in ids:
        service.finished(id_)
        page.locator(f"#{id_} .row-title").click()
        open_row(page, id_)
        expect(page).to_have_url(f"{service.url}/#{id_}")
    page.go_back()
    open_row(page, ids[0])
    page.go_back()
    expect(page.locator(".row.open")).to_have_count(0)
    expect(page).to_have_url(f"{service.url}/")
    page.go_forward()
    open_row(page, ids[0])
    page.locator(f"#{ids[0]} .row-title").click()
    expect(page.locator(".row.open")).to_have_count(0)
    page.go_back()
    open_row(page, ids[0])
    assert page.evaluate("window.sameSince")


def test_opening_the_same_list_again_is_not_a_history_step(service: Service, page: Page) -> None:
    service.project("jumps")
    id_ = service.build("jumps", "main", message="Stays open")
    service.finished(id_)
    page.locator(f"#{id_} .row-title").click()
    open_row(page, id_)
    page.get_by_role("link", name=re.compile("^Blocked")).click()
    expect(page.locator("#blocked-title")).to_be_focused()
    open_row(page, id_)
    expect(page).to_have_url(f"{service.url}/#{id_}")


@pytest.mark.parametrize(("width", "height"), [(1280, 500), (390, 640)])
def test_an_opened_row_shows_its_answer(
    service: Service, opened: Opened, width: int, height: int
) -> None:
    """At the bottom of the screen, where only its first line would be visible."""
    page = opened(viewport={"width": width, "height": height})
    sign_in(page, service)
    project = f"low-{width}"
    service.project(project)
    gate = service.gate(project)
    for n in range(6):
        service.build(project, f"b{n}", job("a", *gate.commands), job("b", "true"))
    for _ in range(8):
        service.build(project, "b5", message="At the end")
    list_name, answer = ("upcoming", ".explanation") if width > 1000 else ("blocked", ".ahead li")
    try:
        expect(page.locator("#blocked .row")).to_have_count(5)
        expect(page.locator("#upcoming .row")).to_have_count(8)
        last = page.locator(f"#{list_name} .row").last
        # Below it there is no room for an answer. The lists may still be moving: repeat until it
        # holds.
        page.wait_for_function(
            """head => {
                head.scrollIntoView({ block: "end" });
                return innerHeight - head.getBoundingClientRect().bottom < 2;
            }""",
            arg=last.locator(".row-head").element_handle(),
        )
        last.locator(".row-title").click()
        expect(last.locator(answer).first).to_be_in_viewport(ratio=0.9)
        expect(last.locator(".row-title")).to_be_in_viewport(ratio=0.9)
    finally:
        gate.open()  # the service is shared: its Boxes are for the other tests, too


@pytest.mark.parametrize(
    "words", ["gift", "ADA", "passed gift", "sort:feature/one", "sieve feature"]
)
def test_the_filter_covers_title_author_and_result(
    service: Service, opened: Opened, words: str
) -> None:
    page = opened()
    sign_in(page, service)
    service.project("sieve")
    found = service.build("sieve", "sort:feature/one", message="Wrap a gift", author="Ada L.")
    other = service.build("sieve", "other", job("unit", "exit 1"), message="Else", author="Grace")
    service.finished(found)
    service.finished(other)
    page.get_by_role("searchbox").fill(words)
    expect(page.locator(f"#{found}")).to_be_visible()
    expect(page.locator(f"#{other}")).to_have_count(0)


def test_the_filter_is_in_the_address(service: Service, page: Page) -> None:
    service.project("kept")
    id_ = service.build("kept", "a&b=c", message="50 % of it")
    service.build("kept", "other", message="The rest")
    service.finished(id_)
    page.get_by_role("searchbox").fill("a&b=c 50 %")
    expect(row(page, "finished", "The rest")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("a&b=c 50 %")
    expect(page.locator(f"#{id_}")).to_be_visible()
    expect(row(page, "finished", "The rest")).to_have_count(0)
    page.locator(f"#{id_} .row-title").click()
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("a&b=c 50 %")
    page.get_by_role("searchbox").fill("")
    expect(row(page, "finished", "The rest")).to_be_visible()
    expect(page).to_have_url(f"{service.url}/")


def test_failed_workloads_are_found_by_their_result(service: Service, page: Page) -> None:
    service.project("results")
    bad = service.build("results", "bad", job("unit", "exit 1"))
    good = service.build("results", "good")
    service.finished(bad)
    service.finished(good)
    page.get_by_role("searchbox").fill("results failed")
    expect(page.locator(f"#{bad}")).to_be_visible()
    expect(page.locator(f"#{good}")).to_have_count(0)
