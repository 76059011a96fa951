"""Small payloads of each host, and their events. Parts given by a test replace the defaults."""

import json

from boxsched.webhooks.reading import read
from tests.webhooks.event_lines import event_line

A, B = "a" * 40, "b" * 40
NULL = "0" * 40
EVENT_HEADERS = {
    "github": "X-GitHub-Event",
    "gitlab": "X-Gitlab-Event",
    "bitbucket": "X-Event-Key",
    "bitbucket-server": "X-Event-Key",
    "gitea": "X-Gitea-Event",
    "forgejo": "X-Forgejo-Event",
    "gogs": "X-Gogs-Event",
}


def delivery(provider, event, payload, **headers):
    if event is not None and provider in EVENT_HEADERS:
        headers[EVENT_HEADERS[provider]] = event
    return read(provider, headers, json.dumps(payload).encode())


def line_of_delivery(provider, event, payload, **headers):
    """Return the only event, as a line."""
    (event,) = delivery(provider, event, payload, **headers).events
    return event_line(event)


def event_of_delivery(provider, event, payload):
    (event,) = delivery(provider, event, payload).events
    return event


def github_push(**parts):
    return {
        "ref": "refs/heads/main",
        "before": B,
        "after": A,
        "head_commit": {"id": A, "message": "Fix it", "author": {"name": "Ann"}},
        **parts,
    }


def github_request(action="opened", *, head=None, base=None, **parts):
    repository = {"full_name": "owner/web"}
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "title": "Add it",
            "head": {"ref": "topic", "sha": A, "repo": repository, **(head or {})},
            "base": {"ref": "main", "sha": B, "repo": repository, **(base or {})},
            "user": {"login": "ann"},
            **parts,
        },
    }


def gitlab_push(**parts):
    return {
        "object_kind": "push",
        "ref": "refs/heads/main",
        "before": B,
        "after": A,
        "checkout_sha": A,
        "user_name": "Ann",
        "commits": [
            {"id": B, "message": "Older", "author": {"name": "Bob"}},
            {"id": A, "message": "Fix it", "author": {"name": "Ann"}},
        ],
        **parts,
    }


def gitlab_request(action="open", **parts):
    return {
        "object_kind": "merge_request",
        "user": {"name": "Bob"},
        "object_attributes": {
            "iid": 7,
            "action": action,
            "title": "Add it",
            "source_project_id": 1,
            "target_project_id": 1,
            "target_branch": "main",
            "last_commit": {"id": A, "message": "Fix it", "author": {"name": "Ann"}},
            **parts,
        },
    }


def cloud_ref(name, commit=A, kind="branch", message="Fix it"):
    author = {"raw": "Ann <ann@example.com>", "user": {"display_name": "Ann"}}
    target = {"hash": commit, "message": message, "author": author}
    return {"type": kind, "name": name, "target": target}


def cloud_push(*changes):
    return {"push": {"changes": [{"old": None, "new": None, **change} for change in changes]}}


def cloud_request(source=None, destination=None, **parts):
    repository = {"full_name": "team/web"}
    return {
        "pullrequest": {
            "id": 7,
            "title": "Add it",
            "state": "OPEN",
            "author": {"display_name": "Ann"},
            "source": {"commit": {"hash": A[:12]}, "repository": repository, **(source or {})},
            "destination": {
                "branch": {"name": "main"},
                "repository": repository,
                **(destination or {}),
            },
            **parts,
        }
    }


def server_push(*changes, **parts):
    return {
        "eventKey": "repo:refs_changed",
        "actor": {"displayName": "Ann"},
        "changes": [{"refId": ref, "fromHash": B, "toHash": commit} for ref, commit in changes],
        **parts,
    }


def server_request(source=1, target=1, **parts):
    return {
        "date": "2026-11-29T10:00:00+0100",
        "pullRequest": {
            "id": 7,
            "title": "Add it",
            "author": {"user": {"displayName": "Ann"}},
            "fromRef": {"latestCommit": A, "repository": {"id": source}},
            "toRef": {"displayId": "main", "repository": {"id": target}},
            **parts,
        },
    }


def gitea_push(**parts):
    return {"ref": "refs/heads/main", "before": B, "after": A, "pusher": {"login": "ann"}, **parts}


def gitea_request(action="opened", *, head=None, base=None, **parts):
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "title": "Add it",
            "user": {"login": "ann", "full_name": "Ann"},
            "head": {"label": "topic", "ref": "topic", "sha": A, "repo_id": 1, **(head or {})},
            "base": {"label": "main", "ref": "main", "sha": B, "repo_id": 1, **(base or {})},
            **parts,
        },
    }


def gogs_request(action="opened", head="owner/web", base="owner/web"):
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "title": "Add it",
            "user": {"login": "ann"},
            "head_repo": {"full_name": head},
            "base_repo": {"full_name": base},
            "base_branch": "main",
        },
    }
