"""GitHub: cases that are not in the published payloads."""

import json
from urllib.parse import urlencode

import pytest

from boxsched.errors import Malformed
from boxsched.webhooks.reading import read
from tests.webhooks.event_lines import event_line
from tests.webhooks.sample_payloads import (
    NULL,
    A,
    B,
    delivery,
    event_of_delivery,
    github_push,
    github_request,
    line_of_delivery,
)


def push(**parts):
    return line_of_delivery("github", "push", github_push(**parts))


def request(*args, **parts):
    return line_of_delivery("github", "pull_request", github_request(*args, **parts))


def test_a_push_builds_its_head():
    assert push() == "branch main at aaaaaaaaaaaa 'Fix it' by Ann"
    assert push(created=True, before=NULL) == "branch main at aaaaaaaaaaaa 'Fix it' by Ann"
    assert push(ref="refs/heads/feature/a") == "branch feature/a at aaaaaaaaaaaa 'Fix it' by Ann"


def test_a_forced_push_is_marked():
    assert push(forced=True) == "branch main at forced to aaaaaaaaaaaa 'Fix it' by Ann"


def test_a_deleted_branch_is_recognized_by_the_flag_or_the_null_hash():
    assert push(deleted=True, after=NULL, head_commit=None) == "branch main deleted"
    assert push(after=NULL, head_commit=None) == "branch main deleted"
    assert push(deleted=True) == "branch main deleted"


def test_a_tag_is_built_at_its_commit_and_not_at_its_own_object():
    tag = push(ref="refs/tags/v1", after=B)
    assert tag == "tag v1 at aaaaaaaaaaaa 'Fix it' by Ann"
    assert push(ref="refs/tags/v1", head_commit=None) == "tag v1 at aaaaaaaaaaaa None by None"


def test_a_deleted_tag_is_ignored():
    assert push(ref="refs/tags/v1", after=NULL, deleted=True) == "ignored: the tag v1 was deleted"
    assert push(ref="refs/tags/v1", after=NULL) == "ignored: the tag v1 was deleted"


def test_a_branch_is_built_at_the_pushed_commit_whatever_the_head_commit():
    assert push(head_commit={"id": B, "message": "x"}).startswith("branch main at aaaaaaaaaaaa")


def test_other_refs_are_ignored():
    assert push(ref="refs/notes/x") == "ignored: neither a branch nor a tag: refs/notes/x"
    assert push(ref="main") == "ignored: neither a branch nor a tag: main"


def test_hashes_of_sha_256_are_commits_too():
    event = event_of_delivery("github", "push", github_push(after="C" * 64, head_commit=None))
    assert event.commit == "c" * 64
    assert push(after="0" * 64, head_commit=None) == "branch main deleted"


def test_a_push_without_a_commit_is_ignored():
    assert push(after="HEAD") == "ignored: HEAD is not a commit"
    assert push(after="a" * 65) == f"ignored: {'a' * 65} is not a commit"
    assert push(after="") == "ignored:  is not a commit"


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize"])
def test_a_pull_request_is_built_when_it_is_opened_reopened_or_pushed_to(action):
    assert request(action) == "build pull-request-7 (own) at aaaaaaaaaaaa 'Add it' by ann"


def test_a_draft_is_built_too_and_marked():
    line = "build pull-request-7 (own draft) at aaaaaaaaaaaa 'Add it' by ann"
    assert request(draft=True) == line
    assert request("ready_for_review") == "ignored: nothing to build for the pull request: " + (
        "ready_for_review"
    )


def test_a_merged_or_closed_request_ends_its_builds():
    assert request("closed", merged=True).startswith("close pull-request-7 (own)")
    assert request("closed", title="x [skip ci]").startswith("close pull-request-7")


@pytest.mark.parametrize("repository", [None, {"full_name": "fork/web"}, {}])
def test_a_head_elsewhere_or_unknown_comes_from_a_fork(repository):
    line = "build pull-request-7 (fork) at aaaaaaaaaaaa 'Add it' by ann"
    assert request(head={"repo": repository}) == line


def test_the_base_has_the_target_branch():
    event = event_of_delivery(
        "github", "pull_request", github_request(updated_at="2026-11-29T10:00:00Z")
    )
    assert (event.branch, event.target_branch, event.at) == (
        "pull-request-7",
        "main",
        1_795_946_400,
    )


@pytest.mark.parametrize(
    "message",
    ["x [skip ci]", "[CI SKIP] x", "a\n\nb [no ci]", "[skip boxsched]", "x\n\n\nskip-checks: true"],
)
def test_a_skip_tag_of_the_head_commit_is_named(message):
    line = push(head_commit={"id": A, "message": message})
    assert line.startswith("ignored: a skip tag in the message: ")
    tag = push(head_commit={"id": A, "message": message}, ref="refs/tags/v1")
    assert tag.startswith("ignored: a skip tag in the message: ")


def test_a_skip_tag_in_the_title_of_a_request_counts():
    assert request(title="Draft [skip ci]") == "ignored: a skip tag in the message: [skip ci]"


def test_a_request_without_the_name_of_an_event_is_ignored():
    assert line_of_delivery("github", None, {}) == (
        "ignored: the request has no X-GitHub-Event header, or more than one"
    )


@pytest.mark.parametrize("odd", ["x" * 256, "a\x00b", "\udcff", " ", "a\tb"])
def test_an_unusual_delivery_id_is_dropped_because_cleaned_it_could_be_anothers(odd):
    for id_, kept in ((odd, None), ("x" * 255, "x" * 255), ("72d3162e-cc78", "72d3162e-cc78")):
        headers = {"X-GitHub-Delivery": id_}
        assert delivery("github", "push", github_push(), **headers).id == kept


def test_a_form_is_read_like_json():
    body = urlencode({"payload": json.dumps(github_push())}).encode()
    headers = {
        "X-GitHub-Event": "push",
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
    }
    assert event_line(read("github", headers, body).events[0]).startswith("branch main at a")


def test_json_that_a_client_declares_as_a_form_is_read_as_json():
    headers = {"X-GitHub-Event": "push", "Content-Type": "application/x-www-form-urlencoded"}
    body = b"\r\n " + json.dumps(github_push()).encode()
    assert event_line(read("github", headers, body).events[0]).startswith("branch main at a")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"payload=", b"payload=1", b"payload={}&payload={}", b"payload=%FF",
             b"payload=\xff", b"a&" * 1_000, b"other={}", b"payload=%7B"]
)  # fmt: skip
def test_a_form_without_one_payload_is_malformed(body):
    headers = {"X-GitHub-Event": "push", "Content-Type": "application/x-www-form-urlencoded"}
    with pytest.raises(Malformed):
        read("github", headers, body)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"ref": None}, "ref"),
        ({"ref": 5}, "ref"),
        ({"after": []}, "after"),
        ({"head_commit": []}, "head_commit"),
        ({"head_commit": {"author": {"name": 5}}}, "head_commit.author.name"),
        ({"forced": "yes"}, "forced"),
        ({"repository": {"clone_url": {}}}, "repository.clone_url"),
    ],
)
def test_a_field_of_another_type_is_malformed_and_named(parts, field):
    with pytest.raises(Malformed) as raised:
        push(**parts)
    assert raised.value.field == field


def test_a_missing_field_is_named():
    with pytest.raises(Malformed) as raised:
        line_of_delivery(
            "github",
            "pull_request",
            {"action": "opened", "number": 1, "pull_request": {"base": {}}},
        )
    assert raised.value.field == "pull_request.head"
    with pytest.raises(Malformed) as raised:
        line_of_delivery("github", "push", {"ref": "refs/heads/main"})
    assert (raised.value.field, raised.value.message) == ("after", "is missing")


@pytest.mark.parametrize("number", [0, -1, 10**13, 1.5, "7", None, 10**40])
def test_a_request_without_a_proper_number_is_malformed(number):
    with pytest.raises(Malformed) as raised:
        line_of_delivery("github", "pull_request", {**github_request(), "number": number})
    assert raised.value.field == "number"
