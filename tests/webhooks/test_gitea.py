"""Gitea, Forgejo and Gogs."""

import pytest

from tests.webhooks.sample_payloads import (
    NULL,
    A,
    B,
    delivery,
    gitea_push,
    gitea_request,
    gogs_request,
    line_of_delivery,
)

FAMILY = ("gitea", "forgejo")
REPOSITORY = {"clone_url": "https://git.example.com/owner/web.git", "full_name": "owner/web"}


@pytest.mark.parametrize("provider", [*FAMILY, "gogs"])
def test_a_push_builds_its_head(provider):
    commits = [
        {"id": B, "message": "Older"},
        {"id": A, "message": "Fix it", "author": {"name": "A"}},
    ]
    assert (
        line_of_delivery(provider, "push", gitea_push())
        == "branch main at aaaaaaaaaaaa None by ann"
    )
    line = line_of_delivery(provider, "push", gitea_push(commits=commits))
    assert line == "branch main at aaaaaaaaaaaa 'Fix it' by A"
    assert line_of_delivery(provider, "push", gitea_push(after=NULL)) == "branch main deleted"


@pytest.mark.parametrize("provider", FAMILY)
def test_a_tag_arrives_as_a_push(provider):
    tag = gitea_push(ref="refs/tags/v1")
    assert line_of_delivery(provider, "push", tag) == "tag v1 at aaaaaaaaaaaa None by ann"
    created = {"ref": "v1", "ref_type": "tag", "sha": A}
    assert line_of_delivery(provider, "create", created) == "ignored: a push event says the same"


@pytest.mark.parametrize("provider", [*FAMILY, "gogs"])
def test_a_deletion_is_a_separate_event(provider):
    assert (
        line_of_delivery(provider, "delete", {"ref": "a/b", "ref_type": "branch"})
        == "branch a/b deleted"
    )
    line = line_of_delivery(provider, "delete", {"ref": "v1", "ref_type": "tag"})
    assert line == "ignored: the tag v1 was deleted"


@pytest.mark.parametrize("provider", FAMILY)
def test_the_head_commits_skip_tag_counts(provider):
    head = {"id": A, "message": "x [skip actions]"}
    line = line_of_delivery(provider, "push", gitea_push(head_commit=head))
    assert line == "ignored: a skip tag in the message: [skip actions]"


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronized"])
@pytest.mark.parametrize("provider", FAMILY)
def test_a_pull_request_is_built(provider, action):
    line = line_of_delivery(provider, "pull_request", gitea_request(action))
    assert line == "build pull-request-7 (own) at aaaaaaaaaaaa 'Add it' by Ann"


def test_older_versions_of_gitea_use_another_name_for_a_push_to_a_request():
    line = line_of_delivery("gitea", "pull_request_sync", gitea_request("synchronized"))
    assert line.startswith("build pull-request-7")


def test_closed_requests_end_their_builds_and_other_actions_are_ignored():
    assert line_of_delivery("gitea", "pull_request", gitea_request("closed")).startswith(
        "close pull-request-7"
    )
    for action in ("edited", "assigned", "label_updated", "milestoned", "review_requested"):
        line = line_of_delivery("gitea", "pull_request", gitea_request(action))
        assert line == f"ignored: nothing to build for the pull request: {action}"
    assert "(own draft)" in line_of_delivery("gitea", "pull_request", gitea_request(draft=True))


@pytest.mark.parametrize(
    "head",
    [
        {"repo_id": 2},
        {"repo_id": None, "repo": None},
        {"repo_id": None, "repo": {"full_name": "fork/web"}},
        {"label": "", "ref": "refs/pull/7/head"},  # AGit: in the base repository, by anyone
        {"ref": "refs/pull/7/head"},
    ],
)
def test_a_head_elsewhere_unknown_or_pushed_for_review_counts_as_a_forks(head):
    assert "(fork)" in line_of_delivery("gitea", "pull_request", gitea_request(head=head))


def test_repositories_without_ids_are_compared_by_name():
    ends = {"repo_id": None, "repo": {"full_name": "owner/web"}}
    assert "(own)" in line_of_delivery("gitea", "pull_request", gitea_request(head=ends, base=ends))


def test_forgejo_uses_its_own_headers_or_giteas():
    both = {"X-Gitea-Event": "issues", "X-Gitea-Delivery": "g", "X-Forgejo-Delivery": "f"}
    sent = delivery("forgejo", "push", gitea_push(repository=REPOSITORY), **both)
    assert (sent.event, sent.id) == ("push", "f")
    assert sent.repositories == (REPOSITORY["clone_url"], "owner/web")
    older = {"X-Gitea-Event": "push", "X-Gitea-Delivery": "g"}
    sent = delivery("forgejo", None, gitea_push(), **older)
    assert (sent.event, sent.id) == ("push", "g")


def test_a_comparison_with_the_null_hash_is_not_a_link():
    url = "https://git.example.com/owner/web/compare/"
    head = {"id": A, "message": "x", "url": "https://git.example.com/owner/web/commit/a"}
    sent = delivery("gitea", "push", gitea_push(compare_url=f"{url}{NULL}...{A}", head_commit=head))
    assert sent.events[0].compare_url == head["url"]
    sent = delivery("gitea", "push", gitea_push(compare_url=f"{url}{B}...{A}", head_commit=head))
    assert sent.events[0].compare_url == f"{url}{B}...{A}"


# --- Gogs -----------------------------------------------------------------------------------


def test_a_new_tag_of_gogs_arrives_only_as_create():
    created = {"ref": "v1", "ref_type": "tag", "sender": {"login": "ann"}}
    assert (
        line_of_delivery("gogs", "create", {**created, "sha": A})
        == "tag v1 at aaaaaaaaaaaa None by ann"
    )
    assert line_of_delivery("gogs", "create", created) == "tag v1 at no commit None by ann"
    branch = {"ref": "topic", "ref_type": "branch"}
    assert line_of_delivery("gogs", "create", branch) == "ignored: a push event says the same"


def test_a_pull_request_of_gogs_names_no_commit():
    line = line_of_delivery("gogs", "pull_request", gogs_request())
    assert line == "build pull-request-7 (own) at no commit 'Add it' by ann"
    assert "(fork)" in line_of_delivery("gogs", "pull_request", gogs_request(head="fork/web"))
    assert line_of_delivery("gogs", "pull_request", gogs_request("closed")).startswith(
        "close pull-request-7"
    )
    assert line_of_delivery("gogs", "pull_request", gogs_request("assigned")).startswith(
        "ignored: nothing"
    )
