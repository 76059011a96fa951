"""Many builds start and end while a person looks at the lists: the part in view does not jump.

The events are created here and passed to the page in place of the service's stream, so that their
number at once does not depend on the machine's speed.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.layout_shift import MOST_SHIFT, OBSERVE, layout_shift
from tests.browser.page_actions import Opened, sign_in
from tests.browser.service import Service

pytestmark = pytest.mark.browser

BUILDS = 700
AT_ONCE = (1, 2, 7, 30, 90)  # builds that move one step before the page is shown again, in turn
BRANCHES, BOXES, WAITING = 40, 20, 250
FIRST_ID = 800_000_000
FIRST_BATCH = 900_000_000  # after all events that the service's own answers know

# In place of the stream: `play(messages)` passes them to the page and returns when their effects
# are shown and stable.
STREAM = """
const {fetch} = window;
const opened = new Promise((resolve) => {
    window.fetch = (address, options) => {
        if (!String(address).endsWith("/api/v1/events")) return fetch(address, options);
        const body = new ReadableStream({start: resolve});
        return Promise.resolve(new Response(body, {status: 200}));
    };
});
window.play = async (messages) => {
    const frame = () => new Promise(requestAnimationFrame);
    const shown = new Promise((resolve) => {
        const watch = new MutationObserver(() => { watch.disconnect(); resolve(); });
        watch.observe(document.getElementById("lists"), {childList: true, subtree: true});
    });
    (await opened).enqueue(new TextEncoder().encode(messages));
    await shown;
    while (document.getAnimations().some(({effect}) => effect.target.matches(".row, .list"))) {
        await frame();
    }
    await frame();
};
"""


def story() -> Iterator[Sequence[dict[str, Any]]]:
    """The events of builds that are registered, wait, run and finish, a batch at a time."""
    waiting: list[int] = []
    running: list[int] = []
    finished, made, turn = 0, 0, 0
    while finished < BUILDS:
        events: list[dict[str, Any]] = []
        for _ in range(AT_ONCE[turn % len(AT_ONCE)]):
            if made < BUILDS and len(waiting) < WAITING:
                events.append(told("registered", made))
                waiting.append(made)
                made += 1
                if made % 2:
                    events.append(told("queued", waiting[-1]))
            if running and (len(running) == BOXES or not waiting):
                events.append(told("finished", running.pop(turn % len(running))))
                finished += 1
            if len(running) < BOXES and waiting:
                running.append(waiting.pop(turn % min(3, len(waiting))))
                events.append(told("started", running[-1]))
        turn += 1
        yield events


def told(what: str, n: int) -> dict[str, Any]:
    at = f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}.000000Z"
    row: dict[str, Any] = {
        "type": f"workload.{what}", "workload": f"w{FIRST_ID + n}", "project": "busy", "number": n,
        "kind": "build", "branch": f"b{n % BRANCHES}", "message": f"{n} " + "long " * (n % 9),
        "boxes": 1, "priority": 50, "created_at": at,
    }  # fmt: skip
    if what != "registered":
        row["queued_at"] = at
    if what in ("started", "finished"):
        row["started_at"] = at
    if what == "finished":
        row |= {"finished_at": at, "result": "passed" if n % 7 else "failed"}
        row["reason"] = None if n % 7 else "unit failed: exit status 1"
    return row


def stream(batch: int, events: Sequence[dict[str, Any]]) -> str:
    return "".join(
        f"id: 1.{FIRST_BATCH + batch}.{n}\ndata: {json.dumps(event)}\n\n"
        for n, event in enumerate(events, 1)
    )


@pytest.mark.parametrize(
    ("width", "height", "scrolled"), [(1280, 900, False), (390, 844, False), (1280, 900, True)]
)
def test_many_builds_move_the_page_little(
    service: Service, opened: Opened, width: int, height: int, *, scrolled: bool
) -> None:
    page: Page = opened(viewport={"width": width, "height": height})
    page.add_init_script(STREAM)
    page.add_init_script(OBSERVE)
    sign_in(page, service)
    for batch, events in enumerate(story()):
        page.evaluate("window.play", stream(batch, events))
        if scrolled and batch == len(AT_ONCE):
            page.mouse.wheel(0, 500)
    expect(page.locator("#finished .row")).to_have_count(50)
    assert layout_shift(page) < MOST_SHIFT, page.evaluate("window.shifts")
