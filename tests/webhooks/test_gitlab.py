"""GitLab: cases that are not in the published payloads."""

import pytest

from boxsched.errors import Malformed
from tests.webhooks.sample_payloads import (
    NULL,
    A,
    B,
    delivery,
    event_of_delivery,
    gitlab_push,
    gitlab_request,
    line_of_delivery,
)


def push(**parts):
    return line_of_delivery("gitlab", "Push Hook", gitlab_push(**parts))


def request(*args, **parts):
    return line_of_delivery("gitlab", "Merge Request Hook", gitlab_request(*args, **parts))


def test_a_push_builds_its_head_with_the_message_of_that_commit():
    assert push() == "branch main at aaaaaaaaaaaa 'Fix it' by Ann"


def test_the_payload_and_not_the_header_decides_the_event():
    payload = {**gitlab_push(), "object_kind": "issue"}
    assert line_of_delivery("gitlab", "Push Hook", payload) == "ignored: issue events are not used"
    assert line_of_delivery("gitlab", "Issue Hook", gitlab_push()).startswith("branch main")
    assert line_of_delivery("gitlab", None, gitlab_push()).startswith("branch main")
    assert line_of_delivery("gitlab", "Push Hook", {}).startswith(
        "ignored: the payload has no object_kind"
    )


def test_a_push_to_the_null_hash_is_a_deletion():
    assert push(after=NULL, checkout_sha=None, commits=[]) == "branch main deleted"
    tag = {"object_kind": "tag_push", "ref": "refs/tags/v1"}
    assert push(**tag, after=NULL, checkout_sha=None) == "ignored: the tag v1 was deleted"


def test_a_tag_is_built_at_its_commit():
    tag = push(object_kind="tag_push", ref="refs/tags/v1", after=B, checkout_sha=A)
    assert tag == "tag v1 at aaaaaaaaaaaa 'Fix it' by Ann"


def test_a_push_without_listed_commits_names_its_author():
    assert push(commits=[]) == "branch main at aaaaaaaaaaaa None by Ann"
    assert push(commits=None) == "branch main at aaaaaaaaaaaa None by Ann"


def test_only_the_head_commits_skip_tag_counts():
    older = {"id": B, "message": "[skip ci]"}
    head = {"id": A, "message": "Fix it [ci skip]"}
    assert push(commits=[older, {"id": A, "message": "Fix it"}]).startswith("branch main")
    assert push(commits=[older, head]) == "ignored: a skip tag in the message: [ci skip]"


@pytest.mark.parametrize("action", ["open", "reopen"])
def test_a_merge_request_is_built_when_it_is_opened(action):
    assert request(action) == "build pull-request-7 (own) at aaaaaaaaaaaa 'Add it' by Ann"


def test_an_update_counts_only_with_oldrev():
    unchanged = "ignored: the merge request was changed, but not its code"
    assert request("update", oldrev=B).startswith("build pull-request-7")
    assert request("update") == request("update", oldrev=None) == unchanged


@pytest.mark.parametrize("action", ["merge", "close"])
def test_a_merged_or_closed_request_ends_its_builds(action):
    assert request(action).startswith("close pull-request-7 (own)")


@pytest.mark.parametrize("action", ["approved", "unapproved", "approval", "unapproval"])
def test_other_actions_are_ignored(action):
    assert request(action) == f"ignored: nothing to build for the merge request: {action}"


@pytest.mark.parametrize(("source", "target"), [(2, 1), (None, 1), (None, None), (1, None)])
def test_a_source_elsewhere_or_unknown_is_a_fork(source, target):
    assert "(fork)" in request(source_project_id=source, target_project_id=target)


def test_drafts_are_marked():
    assert "(own draft)" in request(draft=True)
    assert "(own draft)" in request(work_in_progress=True)


def test_a_skip_tag_of_the_last_commit_counts():
    last = {"id": A, "message": "x [skip ci]"}
    assert request(last_commit=last) == "ignored: a skip tag in the message: [skip ci]"
    assert request("close", last_commit=last).startswith("close")


def test_times_are_read_in_the_forms_that_gitlab_has():
    for text in ("2026-11-29T10:00:00Z", "2026-11-29 10:00:00 UTC", "2026-11-29T11:00:00+01:00"):
        event = event_of_delivery("gitlab", None, gitlab_request(updated_at=text))
        assert event.at == 1_795_946_400
    assert event_of_delivery("gitlab", None, gitlab_request(updated_at="soon")).at is None


def test_the_id_stays_the_same_when_a_delivery_is_sent_again():
    headers = {"X-Gitlab-Event-UUID": "e", "X-Gitlab-Webhook-UUID": "w"}
    assert delivery("gitlab", None, gitlab_push(), **headers).id == "e"
    headers["Idempotency-Key"] = "i"
    assert delivery("gitlab", None, gitlab_push(), **headers).id == "i"


def test_a_duplicate_key_matters_only_in_deliveries_with_effects():
    payload = {"object_kind": "build", "project": {"web_url": "x"}}
    assert line_of_delivery("gitlab", None, payload) == "ignored: build events are not used"


def test_a_merge_request_without_a_number_is_malformed():
    with pytest.raises(Malformed) as raised:
        request(iid=None)
    assert raised.value.field == "object_attributes.iid"
