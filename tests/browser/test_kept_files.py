"""The artifacts of a job are links below its output; of any name, and never run."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.service import Service, job

pytestmark = pytest.mark.browser
NAME = "<img src=x onerror=alert(1)>#?%2e.html"


def test_artifacts_are_downloaded_from_below_the_output(service: Service, page: Page) -> None:
    service.project("kept")
    make = f"mkdir out; echo one > out/a.txt; echo '<script>alert(1)</script>' > 'out/{NAME}'"
    kept = {**job("make", make), "artifacts": ["out"]}
    service.build("kept", "main", kept, message="Keeps files")
    row = page.locator("#finished .row").filter(has_text="Keeps files")
    row.locator(".row-title").click()
    files = page.locator(".kept-file")
    expect(files).to_have_text([f"out/{NAME}", "out/a.txt"])
    expect(page.locator(".kept")).not_to_have_css("padding-left", "0px")  # inside the log's frame
    expect(page.locator(".kept ul")).to_have_css("list-style-type", "none")
    with page.expect_download() as download:
        files.first.click()
    assert download.value.path().read_text() == "<script>alert(1)</script>\n"
    with page.expect_download() as download:
        files.last.click()
    assert download.value.path().read_text() == "one\n"


def test_a_job_without_artifacts_shows_no_list(service: Service, page: Page) -> None:
    service.project("none")
    service.build("none", "main", job("unit", "echo ok"), message="Keeps nothing")
    row = page.locator("#finished .row").filter(has_text="Keeps nothing")
    row.locator(".row-title").click()
    expect(page.locator(".log-note")).to_contain_text("The output ends here.")
    expect(page.locator(".kept")).to_be_hidden()
