"""The page of deliveries from code hosts."""

import hashlib
import hmac
import http.client
import itertools
import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import HOSTILE, Service, job

pytestmark = pytest.mark.browser

SECRET = "a secret"
COMPARE = "https://example.org/shop/web/compare/a...b"
_numbers = itertools.count()


def push(branch: str = "main") -> dict[str, Any]:
    commit = {"id": "a" * 40, "message": "Mend it", "author": {"name": "Ada"}}
    return {
        "ref": f"refs/heads/{branch}",
        "before": f"{next(_numbers):040x}",
        "after": "a" * 40,
        "compare": COMPARE,
        "head_commit": commit,
        "repository": {"full_name": "shop/web", "pushed_at": 1_777_629_600},
    }


def deliver(
    service: Service, body: dict[str, Any], event: str = "push", project: str = "web"
) -> Any:
    raw = json.dumps(body).encode()
    signature = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signature}"}
    connection = http.client.HTTPConnection(service.host, service.port, timeout=30)
    try:
        connection.request("POST", f"/webhooks/github/{project}", raw, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    assert response.status == 200, answer
    return answer


def secured(service: Service, name: str = "web") -> None:
    service.project(name, webhook_secret=SECRET)


def rows(page: Page) -> Any:
    return page.locator(".thing")


def test_the_page_shows_deliveries_and_their_effects(service: Service, page: Page) -> None:
    secured(service)
    body = push()
    created = deliver(service, body)
    deliver(service, body)
    deliver(service, {"zen": "x"}, "ping")
    page.get_by_role("link", name="Deliveries").click()
    expect(page).to_have_title("Deliveries · boxsched")
    expect(rows(page)).to_have_count(3)
    for at, words in enumerate(
        (("ping", "ignored", "a ping"), ("duplicate",), ("push", "created"))
    ):
        for word in words:
            expect(rows(page).nth(at)).to_contain_text(word)
    link = rows(page).nth(2).get_by_role("link", name="web#1", exact=True)
    expect(link).to_have_attribute("href", f"/#{created['workloads'][0]}")
    link.click()
    expect(page.locator(".row.open")).to_contain_text("Mend it")


def test_new_deliveries_appear_by_themselves(service: Service, page: Page) -> None:
    secured(service, "live")
    page.goto(f"{service.url}/deliveries?project=live")
    expect(page.locator(".nothing")).to_be_visible()
    deliver(service, push(), project="live")
    expect(rows(page)).to_have_count(1)
    expect(page.locator(".nothing")).to_be_hidden()


def test_a_filter_is_in_the_address(service: Service, page: Page) -> None:
    secured(service, "one")
    secured(service, "other")
    deliver(service, push(), project="one")
    deliver(service, {"zen": "x"}, "ping", project="one")
    deliver(service, push(), project="other")
    page.goto(f"{service.url}/deliveries")
    field = page.get_by_label("Only this project")
    field.fill("one")
    field.press("Enter")
    expect(rows(page)).to_have_count(2)
    choice = page.get_by_role("button", name="Ignored")
    choice.click()
    expect(rows(page)).to_have_count(1)
    page.reload()
    expect(rows(page)).to_have_count(1)
    expect(field).to_have_value("one")
    expect(choice).to_have_attribute("aria-pressed", "true")


def test_older_deliveries_are_shown_on_request(service: Service, page: Page) -> None:
    secured(service, "many")
    for _ in range(60):
        deliver(service, {"zen": "x"}, "ping", project="many")
    page.goto(f"{service.url}/deliveries?project=many")
    expect(rows(page)).to_have_count(50)
    page.get_by_role("button", name="Show older ones").click()
    expect(rows(page)).to_have_count(60)
    expect(page.get_by_role("button", name="Show older ones")).to_be_hidden()


def test_texts_of_a_host_are_shown_as_text(page: Page, service: Service) -> None:
    deliveries = [
        {
            "id": str(at), "provider": text, "event": text, "project": text, "reason": text,
            "received_at": "2026-01-02T03:04:05.000006Z", "result": "__proto__",
            "workloads": [text], "numbers": [None],
        }
        for at, text in enumerate(HOSTILE.values())
    ]  # fmt: skip
    answer = json.dumps({"deliveries": deliveries, "next_cursor": None})
    page.route("**/api/v1/deliveries?*", lambda route: route.fulfill(body=answer))
    page.goto(f"{service.url}/deliveries")
    expect(rows(page)).to_have_count(len(HOSTILE))
    expect(page.locator("#view")).to_contain_text(HOSTILE["script"])
    assert page.locator("#view :is(img, script, iframe, object, style)").count() == 0
    links = page.locator("#view a").evaluate_all("found => found.map((one) => one.href)")
    assert all(link.startswith(f"{service.url}/#") for link in links)


def test_on_a_phone_nothing_is_cut_off(service: Service, page: Page) -> None:
    secured(service)
    deliver(service, push())
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{service.url}/deliveries")
    expect(rows(page)).not_to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_row_links_to_the_changes(service: Service, opened: Opened) -> None:
    page = opened(viewport={"width": 1280, "height": 900})
    sign_in(page, service)
    service.call(
        "PUT", "/projects/linked", {"jobs": [job("unit", "true")], "webhook_secret": SECRET}
    )
    [created] = deliver(service, push(), project="linked")["workloads"]
    service.finished(created)
    row(page, "finished", "linked").get_by_role("button").first.click()
    link = page.get_by_role("link", name="at the code host")
    expect(link).to_have_attribute("href", COMPARE)
    expect(link).to_have_attribute("rel", "noreferrer noopener")
