"""Signing in and out, and sessions that end while the page is open."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import Opened, sign_in
from tests.browser.service import Service

pytestmark = pytest.mark.browser


def test_without_a_session_the_form_is_shown(service: Service, opened: Opened) -> None:
    page = opened()
    response = page.goto(service.url)
    assert response is not None and response.status == 200
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.locator("#running")).to_have_count(0)


def test_a_wrong_token_is_refused_and_a_valid_one_signs_in(
    service: Service, opened: Opened
) -> None:
    page = opened()
    page.goto(service.url)
    page.get_by_label("Token").fill("not-the-token")
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    sign_in(page, service)
    expect(page.get_by_role("heading", name="Activity Monitor")).to_be_visible()


def test_a_workers_token_is_recognized_as_one(service: Service, opened: Opened) -> None:
    page = opened()
    page.goto(service.url)
    page.get_by_label("Token").fill(service.call("POST", "/tokens", {"role": "worker"})["token"])
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_role("alert")).to_have_text(
        "This token has the role worker, which is for machines. Sign in with another one."
    )


def test_the_cookie_cannot_be_read_by_scripts_or_sent_by_other_sites(
    service: Service, page: Page
) -> None:
    cookies = page.context.cookies()
    assert [cookie["name"] for cookie in cookies] == ["boxsched_session"]
    assert cookies[0]["httpOnly"] and cookies[0]["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
    assert service.token not in page.content()


def test_signing_out_ends_the_session(service: Service, page: Page) -> None:
    session = page.context.cookies()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.context.add_cookies(session)  # type: ignore[arg-type]
    page.goto(service.url)
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_session_that_ends_shows_the_form_and_the_page_continues(
    service: Service, page: Page
) -> None:
    service.project("sessions")
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    dialog = page.get_by_role("dialog", name="Signed out")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill(service.token)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    service.build("sessions", "main", message="After the session's end")
    expect(page.locator("#finished")).to_contain_text("After the session's end")
    assert page.evaluate("window.sameSince")


def test_the_form_works_without_javascript(service: Service, opened: Opened) -> None:
    page = opened(java_script_enabled=False)
    page.goto(service.url)
    page.get_by_label("Token").fill("not-the-token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("Token").fill(service.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Activity Monitor")).to_be_visible()
