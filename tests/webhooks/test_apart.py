"""A large delivery is read in a separate process, with the same outcome."""

import json
import logging

import pytest
from multidict import CIMultiDict

from boxsched.errors import BoxschedError, StoreAway
from boxsched.webhooks import apart
from boxsched.webhooks.events import ParsedDelivery
from boxsched.webhooks.reading import read
from tests.service.code_hosts import change, deletion, push


def outcome(how: object, provider: str, headers: CIMultiDict[str], body: bytes) -> object:
    try:
        return how(provider, headers, body)  # type: ignore[operator]
    except BoxschedError as error:
        return type(error), error.message, error.field


@pytest.mark.parametrize(
    ("provider", "event", "body"),
    [
        ("github", "push", json.dumps(push()).encode()),
        ("github", "push", json.dumps(deletion()).encode()),
        ("github", "pull_request", json.dumps(change(fork=True)).encode()),
        ("github", "ping", b"{}"),
        ("github", "push\udcff", b"{}"),
        ("github", "push", b'{"ref": 7}'),
        ("github", "push", b'{"ref": "refs/heads/\xff"}'),
        ("github", "push", b"[" * 100_000),
        ("generic", "", b'{"tag": "v1", "commit": "1234567", "author": "\\u00e9"}'),
        ("generic", "", b'{"branch": "-x"}'),
        ("generic", "", b'{"branch": "a", "branch": "b"}'),
    ],
)
def test_both_ways_read_the_same_delivery(provider: str, event: str, body: bytes) -> None:
    headers = CIMultiDict({"X-GitHub-Event": event, "X-GitHub-Delivery": "7"})
    here = outcome(read, provider, headers, body)
    assert outcome(apart.read_apart, provider, headers, body) == here
    assert isinstance(here, (ParsedDelivery, tuple))


def test_a_header_that_is_given_twice_counts_as_missing_in_both() -> None:
    headers = CIMultiDict([("X-GitHub-Event", "push"), ("x-github-event", "ping")])
    body = json.dumps(push()).encode()
    found = apart.read_apart("github", headers, body)
    assert found == read("github", headers, body)
    assert found.event == "unnamed"


def test_an_error_that_ends_the_process_may_be_temporary(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apart, "_BOOT", "import os; os.kill(os.getpid(), 9)")
    body = json.dumps(push(padding="x" * (1 << 20))).encode()
    with caplog.at_level(logging.ERROR), pytest.raises(StoreAway, match="send it again"):
        apart.read_apart("github", CIMultiDict({"X-GitHub-Event": "push"}), body)
    assert "status -9" in caplog.text


def test_the_process_has_limits_and_nothing_of_our_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BOXSCHED_CANARY", "canary")
    told = "import os, sys; sys.exit(repr((sorted(os.environ), os.getcwd())))"
    monkeypatch.setattr(apart, "_BOOT", told)
    with caplog.at_level(logging.ERROR), pytest.raises(StoreAway):
        apart.read_apart("github", CIMultiDict(), b"{}")
    assert "PATH" in caplog.text
    assert "CANARY" not in caplog.text
    hungry = (
        "import sys; sys.path[:] = sys.argv[1:]; from boxsched.webhooks import apart; "
        "apart._answer = lambda *_: bytes(2 << 30); apart.main()"
    )
    monkeypatch.setattr(apart, "_BOOT", hungry)
    with caplog.at_level(logging.ERROR), pytest.raises(StoreAway):
        apart.read_apart("github", CIMultiDict(), b"{}")
    assert "MemoryError" in caplog.text
