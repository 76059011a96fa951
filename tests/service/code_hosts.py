"""Deliveries of code hosts: bodies and signatures."""

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.service.running_service import Answer, RunningService

SECRET = "s3cret of the project"
COMMIT = "3f2c9a" + 34 * "0"
PAYLOADS = PROJECT.parent / "shared" / "webhooks"
_numbers = itertools.count(1)

HEADERS: Mapping[str, str] = {
    "github": "X-Hub-Signature-256",
    "bitbucket": "X-Hub-Signature",
    "bitbucket-server": "X-Hub-Signature",
    "gitea": "X-Gitea-Signature",
    "forgejo": "X-Forgejo-Signature",
    "gogs": "X-Gogs-Signature",
}


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed(provider: str, body: bytes, secret: str = SECRET) -> dict[str, str]:
    """Return the headers that this provider signs with."""
    if provider == "gitlab":
        return {"X-Gitlab-Token": secret}
    if provider == "generic":
        at = str(int(time.time()))
        text = signature(f"{at}.".encode() + body, secret)
        return {"X-Boxsched-Timestamp": at, "X-Boxsched-Signature": f"sha256={text}"}
    prefix = "" if provider in ("gitea", "forgejo", "gogs") else "sha256="
    return {HEADERS[provider]: prefix + signature(body, secret)}


def push(branch: str = "main", **changes: Any) -> dict[str, Any]:
    """Return the fields of a GitHub push that are read; each push is different."""
    commit = {
        "id": COMMIT,
        "message": "Mend it",
        "author": {"name": "Ada", "email": "ada@example.org"},
    }
    return {
        "ref": f"refs/heads/{branch}",
        "before": f"{next(_numbers):040x}",
        "after": COMMIT,
        "created": False,
        "deleted": False,
        "forced": False,
        "compare": "https://github.com/shop/web/compare/a...b",
        "commits": [commit],
        "head_commit": commit,
        "repository": {
            "full_name": "shop/web",
            "clone_url": "https://github.com/shop/web.git",
            "ssh_url": "git@github.com:shop/web.git",
            "default_branch": "main",
            "pushed_at": 1_777_629_600,
        },
        "pusher": {"name": "ada"},
        **changes,
    }


def deletion(branch: str = "main") -> dict[str, Any]:
    return push(branch, after="0" * 40, deleted=True, commits=[], head_commit=None)


def change(action: str = "opened", number: int = 7, *, fork: bool = False) -> dict[str, Any]:
    """Return GitHub's payload of a pull request."""
    own = {"full_name": "shop/web", "clone_url": "https://github.com/shop/web.git", "id": 1}
    head = {**own, "full_name": "mallory/web", "id": 2, "fork": True} if fork else own
    return {
        "action": action,
        "number": number,
        "before": f"{next(_numbers):040x}",
        "pull_request": {
            "number": number,
            "title": "A better shop",
            "html_url": f"https://github.com/shop/web/pull/{number}",
            "user": {"login": "ada"},
            "draft": False,
            "updated_at": "2026-05-01T10:00:00Z",
            "head": {"ref": "better", "sha": COMMIT, "repo": head},
            "base": {"ref": "stable", "sha": "1" * 40, "repo": own},
        },
        "repository": {**own, "default_branch": "main"},
    }


async def send(
    service: RunningService,
    body: bytes | Mapping[str, Any],
    event: str = "push",
    *,
    project: str = "web",
    provider: str = "github",
    secret: str = SECRET,
    delivery: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a signed delivery; ``delivery``: the host's id of it, by default a new one."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    id_ = f"delivery-{next(_numbers)}" if delivery is None else delivery
    names = {"X-GitHub-Event": event, "X-GitHub-Delivery": id_} if provider == "github" else {}
    sent = {"Content-Type": "application/json", **names, **signed(provider, raw, secret)}
    path = f"/webhooks/{provider}/{project}"
    return await service.call(
        "POST", path, data=raw, headers={**sent, **(headers or {})}, token=None
    )


async def sent(
    service: RunningService, body: bytes | Mapping[str, Any], event: str = "push", **how: Any
) -> Any:
    """Send a signed delivery and return the answer, which must be 200."""
    answer = await send(service, body, event, **how)
    assert answer.status == 200, answer.body
    return answer.json


async def listed(service: RunningService, **asked: str) -> list[Any]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    found: list[Any] = (await service.get(f"/deliveries?{query}"))["deliveries"]
    return found


def payload(path: str) -> bytes:
    """Return a real payload from the samples beside the repository."""
    return Path(PAYLOADS, path).read_bytes()


async def secured(service: RunningService, name: str = "web", **settings: object) -> None:
    answer = await service.project(name, webhook_secret=SECRET, **settings)
    assert answer.status in (200, 201), answer.body
