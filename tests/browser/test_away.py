"""The service goes away and returns as another of its nodes: the page continues.

The page knows one address, as behind a load balancer; the node behind it changes.
"""

from collections.abc import Iterator

import attrs
import pytest
from playwright.sync_api import expect

from tests.browser.load_balancer import load_balancer
from tests.browser.page_actions import Opened, row, sign_in
from tests.browser.service import Service, serving
from tests.contract.postgres_server import database, served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Service, Service]]:
    """Two nodes; the first runs no jobs, so that it can be stopped."""
    with served() as server, database(server.url("postgres")) as url:
        shared = ("--database", url)
        with serving(*shared, "--boxes", "0") as one, serving(*shared) as two:
            yield one, two


def test_the_page_continues_at_another_node(nodes: tuple[Service, Service], opened: Opened) -> None:
    one, two = nodes
    one.project("web")
    with load_balancer(one) as (proxy, ask):
        page = opened()
        sign_in(page, attrs.evolve(one, port=proxy.port))
        one.build("web", "before")
        expect(row(page, "finished", "before")).to_have_count(1)

        ask(proxy.refuse())
        expect(page.locator("#connection")).to_have_text("Reconnecting")
        gate = two.gate("meanwhile")
        two.build("web", "meanwhile", {"name": "wait", "commands": gate.commands})
        proxy.server = two.port
        ask(proxy.heal())
        expect(page.locator("#connection")).to_have_text("Live")
        expect(row(page, "running", "meanwhile")).to_have_count(1)

        gate.open()
        two.build("web", "after")
        for branch in ("before", "meanwhile", "after"):
            expect(row(page, "finished", branch)).to_have_count(1)
        expect(page.locator("#running .row, #blocked .row, #upcoming .row")).to_have_count(0)
        assert page.evaluate("window.sameSince")
        page.close()
