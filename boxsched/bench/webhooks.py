"""Load a running service with deliveries of a code host, and measure the answers.

It sends signed pushes of about 8 KB, as GitHub does, each of a separate branch; each is answered
when its build is durable. Then it sends the same ones again as duplicates. The builds run at the
same time.
"""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator

from boxsched.bench.counted import refuse_uncounted
from boxsched.bench.figures import spread
from boxsched.bench.load import Load
from boxsched.bench.service import PROJECT, BenchNodes, Plan, loaded_with, refuse_real_jobs

PROVIDER = "github"
REPEATED = 20_000  # limit of the repeated deliveries, which are kept in memory
_PATH = f"/webhooks/{PROVIDER}/{PROJECT}"
_COMMIT = "0123456789abcdef" * 2 + "01234567"
_PARTS = ("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits",
          "compare", "contents", "deployments", "downloads", "events", "forks", "hooks", "issues",
          "keys", "labels", "languages", "merges", "milestones", "notifications", "pulls",
          "releases", "stargazers", "statuses", "subscribers", "tags", "trees")  # fmt: skip


async def measure(nodes: BenchNodes, plan: Plan, say: Callable[[str], None]) -> dict[str, object]:
    """Return the figures. Raises StoreAway if the builds do not end."""
    client = nodes.client
    await refuse_uncounted(nodes.clients)
    pushes = Pushes(secrets.token_hex(16), plan)
    jobs = [{"name": f"job-{number + 1}", "commands": ["false"]} for number in range(plan.jobs)]
    await client.put_project(PROJECT, {"jobs": jobs, "webhook_secret": pushes.secret})
    await refuse_real_jobs(client)
    say(f"load: deliveries over {plan.concurrency} connections")
    load = Load(_PATH, pushes.new(), good=b"200", headers=pushes.headers)
    loaded = await loaded_with(nodes, load, plan.connections)
    say("the same deliveries again")
    again = Load(_PATH, iter(pushes.sent), good=b"200", headers=pushes.headers)
    await again.run(nodes.targets, plan.connections)
    await client.put_project(PROJECT, {"jobs": jobs, "webhook_secret": None})
    return {
        "nodes": len(nodes.clients),
        "concurrency": plan.concurrency,
        "bytes_of_a_delivery": len(pushes.sent[0]),
        "deliveries": len(load.seconds),
        "deliveries_per_second": round(len(load.seconds) / load.took, 1),
        "latency_ms": spread(load.seconds),
        "duplicates": len(again.seconds),
        "duplicates_per_second": round(len(again.seconds) / again.took, 1),
        "latency_of_duplicates_ms": spread(again.seconds),
        "longest_loop_hold_ms": round(loaded.after.loop_hold_seconds * 1000, 1),
    }


class Pushes:
    """Signed pushes, each to a separate branch."""

    def __init__(self, secret: str, plan: Plan) -> None:
        self.secret = secret
        self.sent: list[bytes] = []  # the first pushes, which are sent again
        self._plan = plan
        self._run = secrets.token_hex(4)
        self._template = json.dumps(_payload("BRANCH")).encode()

    def new(self) -> Iterator[bytes]:
        """Yield as many pushes as planned; the time starts with the first."""
        plan = self._plan
        until = time.perf_counter() + plan.seconds
        number = 0
        while number < plan.builds if plan.builds is not None else time.perf_counter() < until:
            body = self._template.replace(b"BRANCH", f"hook-{self._run}-{number:07}".encode())
            if number < REPEATED:
                self.sent.append(body)
            yield body
            number += 1

    def headers(self, body: bytes) -> str:
        signature = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        return (
            f"X-GitHub-Event: push\r\nX-GitHub-Delivery: {secrets.token_hex(16)}\r\n"
            f"X-Hub-Signature-256: sha256={signature}\r\n"
        )


def _payload(branch: str) -> dict[str, object]:
    """Return a payload as large as GitHub's, with the same fields as far as they are used."""
    api = "https://api.example.org/repos/shop/web"
    urls = {f"{part}_url": f"{api}/{part}{{/{part}_of_this_repository}}" for part in _PARTS}
    owner = {f"{part}_url": f"https://api.example.org/users/ada/{part}" for part in _PARTS[:14]}
    person = {"name": "Ada", "email": "ada@example.org", "username": "ada"}
    commit = {
        "id": _COMMIT,
        "message": "Mend the shop",
        "timestamp": "2026-05-01T12:00:00+02:00",
        "url": f"https://example.org/shop/web/commit/{_COMMIT}",
        "author": person,
        "committer": person,
        "added": ["src/basket.py"],
        "removed": [],
        "modified": ["src/shop.py", "tests/test_shop.py"],
    }
    return {
        "ref": f"refs/heads/{branch}",
        "before": "f" * 40,
        "after": _COMMIT,
        "created": False,
        "deleted": False,
        "forced": False,
        "compare": f"https://example.org/shop/web/compare/{'f' * 12}...{_COMMIT[:12]}",
        "commits": [commit],
        "head_commit": commit,
        "repository": {
            "id": 1,
            "full_name": "shop/web",
            "clone_url": "https://example.org/shop/web.git",
            "default_branch": "main",
            "pushed_at": 1_777_629_600,
            "owner": {"login": "ada", **owner},
            **urls,
        },
        "pusher": person,
        "sender": {"login": "ada", **owner},
    }
