"""The expected outcome of each real payload in ../shared/webhooks: ``outcomes.json``, by file."""

import json
from pathlib import Path

import pytest

from boxsched.webhooks.reading import PROVIDERS, read
from tests.conftest import SHARED
from tests.webhooks.event_lines import event_line

PAYLOADS = SHARED / "webhooks"
EXPECTED = json.loads((Path(__file__).parent / "outcomes.json").read_text())
MANIFEST = PAYLOADS / "manifest.json"


def manifest():
    if not MANIFEST.is_file():
        return []
    entries = json.loads(MANIFEST.read_text())
    return [entry for entry in entries if entry["provider"] in PROVIDERS]


needs_payloads = pytest.mark.skipif(not MANIFEST.is_file(), reason="no ../shared")


@needs_payloads
def test_the_table_has_every_payload_of_a_known_provider():
    assert {entry["file"] for entry in manifest()} == set(EXPECTED)


@pytest.mark.parametrize("entry", manifest(), ids=lambda entry: entry["file"])
def test_a_real_payload_has_the_outcome_in_the_table(entry):
    body = (PAYLOADS / entry["file"]).read_bytes()
    for headers in (entry["headers"], *(entry.get("alt_headers") or ())):
        delivery = read(entry["provider"], headers, body)
        assert [event_line(event) for event in delivery.events] == [EXPECTED[entry["file"]]]


@needs_payloads
def test_a_push_of_github_has_its_time_link_and_names_of_the_repository():
    body = (PAYLOADS / "go-playground/github/push.json").read_bytes()
    delivery = read("github", {"X-GitHub-Event": "push", "X-GitHub-Delivery": "abc-1"}, body)
    (push,) = delivery.events
    assert push.at == 1_530_281_075
    assert push.compare_url == (
        "https://github.com/binkkatal/sample_app/compare/737d38c599c1...fd489864e764"
    )
    assert (delivery.event, delivery.id, delivery.default_branch) == ("push", "abc-1", "master")
    assert set(delivery.repositories) == {
        "https://github.com/binkkatal/sample_app.git",
        "git@github.com:binkkatal/sample_app.git",
        "https://github.com/binkkatal/sample_app",
        "binkkatal/sample_app",
    }
