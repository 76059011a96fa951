"""Bitbucket Cloud, and Bitbucket Data Center and Server."""

import pytest

from boxsched.errors import Malformed
from boxsched.webhooks.outcomes import MAX_EVENTS, MAX_REPOSITORIES
from tests.webhooks.event_lines import event_line
from tests.webhooks.sample_payloads import (
    NULL,
    A,
    B,
    cloud_push,
    cloud_ref,
    cloud_request,
    delivery,
    event_of_delivery,
    line_of_delivery,
    server_push,
    server_request,
)


def cloud(*changes):
    return [event_line(e) for e in delivery("bitbucket", "repo:push", cloud_push(*changes)).events]


def server(*changes, **parts):
    sent = delivery("bitbucket-server", "repo:refs_changed", server_push(*changes, **parts))
    return [event_line(event) for event in sent.events]


# --- Cloud ----------------------------------------------------------------------------------


def test_a_push_has_an_event_for_each_ref_in_order():
    assert cloud(
        {"new": cloud_ref("main")},
        {"old": cloud_ref("gone")},
        {"new": cloud_ref("v1", B, "tag"), "old": None},
        {"old": cloud_ref("v0", kind="annotated_tag")},
        {"new": cloud_ref("topic", B), "old": cloud_ref("topic"), "forced": True},
    ) == [
        "branch main at aaaaaaaaaaaa 'Fix it' by Ann",
        "branch gone deleted",
        "tag v1 at bbbbbbbbbbbb 'Fix it' by Ann",
        "ignored: the tag v0 was deleted",
        "branch topic at forced to bbbbbbbbbbbb 'Fix it' by Ann",
    ]


def test_a_skip_tag_counts_only_for_its_own_ref():
    lines = cloud({"new": cloud_ref("a", message="[skip ci]")}, {"new": cloud_ref("b")})
    assert lines == [
        "ignored: a skip tag in the message: [skip ci]",
        "branch b at aaaaaaaaaaaa 'Fix it' by Ann",
    ]


def test_changes_without_a_name_are_ignored():
    assert cloud() == ["ignored: nothing was changed"]
    assert cloud({}) == ["ignored: the change names no ref"]
    assert cloud({"new": cloud_ref("x", kind="bookmark")}) == [
        "ignored: neither a branch nor a tag: bookmark"
    ]
    assert cloud({"new": {"type": "branch", "name": "x"}}) == ["ignored:  is not a commit"]


def test_a_push_of_very_many_refs_is_cut():
    events = cloud(*[{"new": cloud_ref(f"b{i}")} for i in range(MAX_EVENTS + 20)])
    assert len(events) == MAX_EVENTS + 1
    assert len(cloud(*[{"new": cloud_ref(f"b{i}")} for i in range(MAX_EVENTS)])) == MAX_EVENTS
    assert events[-1] == "ignored: 20 more changes: only the first 100 of a push count"


def test_the_address_in_a_raw_author_is_left_out():
    ref = cloud_ref("main")
    ref["target"]["author"] = {"raw": "Ann B <ann@example.com>"}
    assert cloud({"new": ref}) == ["branch main at aaaaaaaaaaaa 'Fix it' by Ann B"]


@pytest.mark.parametrize("event", ["created", "updated"])
def test_a_pull_request_of_cloud_is_built(event):
    line = line_of_delivery("bitbucket", f"pullrequest:{event}", cloud_request())
    assert line == "build pull-request-7 (own) at aaaaaaaaaaaa 'Add it' by Ann"


@pytest.mark.parametrize("event", ["fulfilled", "rejected", "superseded"])
def test_a_pull_request_of_cloud_is_closed(event):
    line = line_of_delivery("bitbucket", f"pullrequest:{event}", cloud_request(state="MERGED"))
    assert line.startswith("close pull-request-7")


def test_an_update_of_a_closed_request_builds_nothing():
    line = line_of_delivery("bitbucket", "pullrequest:updated", cloud_request(state="SUPERSEDED"))
    assert line.startswith("close pull-request-7")


@pytest.mark.parametrize("repository", [None, {}, {"full_name": "fork/web"}])
def test_a_source_elsewhere_or_unknown_is_a_fork(repository):
    payload = cloud_request(source={"repository": repository})
    assert "(fork)" in line_of_delivery("bitbucket", "pullrequest:created", payload)


def test_cloud_names_its_repository_and_delivery():
    payload = {**cloud_push(), "repository": {"full_name": "team/web"}}
    headers = {"X-Request-UUID": "r", "X-Hook-UUID": "h"}
    sent = delivery("bitbucket", "repo:push", payload, **headers)
    assert (sent.id, sent.repositories) == ("r", ("https://bitbucket.org/team/web", "team/web"))


# --- Data Center and Server -----------------------------------------------------------------


def test_a_push_to_data_center_has_an_event_for_each_ref():
    assert server(
        ("refs/heads/main", A),
        ("refs/heads/gone", NULL),
        ("refs/tags/v1", B),
        ("refs/tags/v0", NULL),
    ) == [
        "branch main at aaaaaaaaaaaa None by Ann",
        "branch gone deleted",
        "tag v1 at bbbbbbbbbbbb None by Ann",
        "ignored: the tag v0 was deleted",
    ]


def test_the_message_belongs_to_the_ref_whose_head_it_is():
    head = {"id": A, "message": "Fix it [skip ci]", "author": {"name": "Bob"}}
    lines = server(("refs/heads/main", A), ("refs/heads/x", B), toCommit=head)
    assert lines[0] == "ignored: a skip tag in the message: [skip ci]"
    assert lines[1] == "branch x at bbbbbbbbbbbb None by Ann"
    head["message"] = "Fix it"
    assert server(("refs/heads/main", A), toCommit=head) == [
        "branch main at aaaaaaaaaaaa 'Fix it' by Bob"
    ]


@pytest.mark.parametrize("event", ["pr:opened", "pr:reopened", "pr:from_ref_updated"])
def test_a_pull_request_of_data_center_is_built(event):
    line = line_of_delivery("bitbucket-server", event, server_request())
    assert line == "build pull-request-7 (own) at aaaaaaaaaaaa 'Add it' by Ann"


@pytest.mark.parametrize("event", ["pr:merged", "pr:declined", "pr:deleted"])
def test_a_pull_request_of_data_center_is_closed(event):
    assert line_of_delivery("bitbucket-server", event, server_request()).startswith(
        "close pull-request-7"
    )


@pytest.mark.parametrize(("source", "target"), [(1, 2), (None, 1), (None, None)])
def test_a_source_in_another_repository_is_a_fork(source, target):
    assert "(fork)" in line_of_delivery(
        "bitbucket-server", "pr:opened", server_request(source, target)
    )


def test_the_time_is_the_events():
    event = event_of_delivery("bitbucket-server", "pr:opened", server_request())
    assert event.at == 1_795_942_800


def test_a_test_of_the_connection_is_a_ping():
    line = line_of_delivery("bitbucket-server", "diagnostics:ping", {"test": True})
    assert line == "ignored: a ping: the webhook is set up"


def test_the_payload_names_the_event_where_no_header_does():
    assert line_of_delivery("bitbucket-server", None, server_push(("refs/heads/a", A))).startswith(
        "branch a"
    )
    assert line_of_delivery("bitbucket-server", None, {}).startswith(
        "ignored: the request has no X-Event-Key"
    )


def test_a_repository_has_a_limited_number_of_names():
    links = {"clone": [{"href": f"https://git.example.com/{i}"} for i in range(10_000)]}
    sent = delivery("bitbucket-server", None, server_push(repository={"links": links}))
    assert len(sent.repositories) == MAX_REPOSITORIES


def test_a_repository_without_links_has_a_full_name():
    repository = {"slug": "web", "project": {"key": "PROJ"}}
    sent = delivery("bitbucket-server", None, server_push(repository=repository))
    assert sent.repositories == ("PROJ/web",)


@pytest.mark.parametrize("changes", [None, 5, [5], [None], [{"refId": 5}]])
def test_unusual_changes_are_malformed(changes):
    with pytest.raises(Malformed) as raised:
        delivery("bitbucket-server", "repo:refs_changed", {"changes": changes})
    assert raised.value.field.startswith("changes")
    with pytest.raises(Malformed) as raised:
        delivery("bitbucket", "repo:push", {"push": {"changes": changes and [{"new": changes}]}})
    assert raised.value.field.startswith("push.changes")
