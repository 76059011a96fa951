"""The page reads a log to its end, however an answer ends."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.service import Service

pytestmark = pytest.mark.browser

# A fake job: each answer is {state, attempt, latest, log, cut}; the last one is repeated forever.
READ = """async (answers) => {
    const base = document.querySelector("script[type=module]").src;
    const { readLog } = await import(new URL("./log-reader.js", base));
    const asked = [], states = [], pieces = [];
    window.fetch = async (path) => {
        const query = new URL(path, location).searchParams;
        asked.push([query.get("attempt"), Number(query.get("offset"))]);
        const play = answers.length > 1 ? answers.shift() : answers[0];
        if (play.away) throw new TypeError("away");
        if (play.missing) return new Response("{}", { status: 404 });
        const bytes = new TextEncoder().encode(play.log);
        const from = Number(query.get("offset"));
        const body = bytes.slice(from, play.cut === undefined ? undefined : from + play.cut);
        return new Response(body, { headers: {
            "Boxsched-Job-State": play.state,
            "Boxsched-Attempt": query.get("attempt") ?? play.attempt ?? 1,
            "Boxsched-Latest-Attempt": play.latest ?? 1,
            "Boxsched-Log-Size": bytes.length,
        } });
    };
    const { signal } = new AbortController();
    const reading = readLog("w1-1", { signal, onState: (state) => states.push(state) });
    for await (const { text, attempt } of reading) pieces.push(attempt ? `[${attempt}]` : text);
    return { text: pieces.join(""), asked, states };
}"""


@pytest.fixture
def read(service: Service, browser: Any) -> Any:
    page: Page = browser.new_page()
    page.goto(service.url)
    yield lambda *answers: page.evaluate(READ, list(answers))
    page.close()


def test_an_answer_that_ends_early_is_not_the_end(read: Any) -> None:
    whole = {"state": "finished", "log": "grün\nzwei\n"}
    seen = read({**whole, "state": "running", "cut": 3}, {"away": True}, whole)
    assert seen["text"] == "grün\nzwei\n"  # the third byte is half of a character
    assert [offset for _, offset in seen["asked"]] == [0, 3, 3]
    assert seen["states"] == ["live", "reconnecting", "live"]


def test_a_dialog_requests_an_ended_workload_again(read: Any) -> None:
    seen = read({"state": "running", "log": "one\n"}, {"state": "finished", "log": "one\ntwo\n"})
    assert seen["text"] == "one\ntwo\n"
    assert seen["asked"] == [[None, 0], ["1", 4]]


def test_after_a_lost_attempt_the_next_one_is_shown(read: Any) -> None:
    seen = read(
        {"state": "running", "log": "of 1\n"},
        {"state": "running", "latest": 2, "log": "of 1\nlast\n"},
        {"state": "finished", "latest": 2, "log": "of 2\n"},
    )
    assert seen["text"] == "of 1\nlast\n[2]of 2\n"
    assert seen["asked"] == [[None, 0], ["1", 5], ["2", 0]]


def test_an_attempt_that_its_worker_got_back_goes_on_where_it_was_left(read: Any) -> None:
    seen = read(
        {"state": "running", "latest": 2, "log": "of 1\n"},
        {"state": "running", "latest": 2, "log": ""},
        {"missing": True},
        {"state": "finished", "log": "of 1\nmore\n"},
    )
    assert seen["text"] == "of 1\n[2][1]more\n"
    assert seen["asked"] == [[None, 0], ["2", 0], ["2", 0], ["1", 5]]
