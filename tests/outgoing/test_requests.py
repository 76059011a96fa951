"""The requests that code hosts and hooks get: pure functions, from values to values."""

import hashlib
import hmac
import json

import pytest

from boxsched.outgoing import hooks, statuses
from boxsched.outgoing.retrying import pause_after, retry_after
from boxsched.outgoing.statuses.status import Shown, Status
from boxsched.repository import repository

SHA = "1a410efbd13591db07496601ebc7a059dd55cfe9"
STATUS = Status(Shown.PASSED, SHA, "web", 12, "main", None, "https://ci.example/#w9")
TABLE = [
    # provider, repository, its URL, and what the body has
    (
        "github",
        "git@github.com:acme/shop.git",
        f"https://api.github.com/repos/acme/shop/statuses/{SHA}",
        {"state": "success", "context": "boxsched/web", "target_url": "https://ci.example/#w9"},
    ),
    (
        "github",
        "https://git.acme.example/acme/shop",
        f"https://git.acme.example/api/v3/repos/acme/shop/statuses/{SHA}",
        {"state": "success", "context": "boxsched/web"},
    ),
    (
        "gitlab",
        "ssh://git@gitlab.example:2222/group/sub/shop.git",
        f"https://gitlab.example/api/v4/projects/group%2Fsub%2Fshop/statuses/{SHA}",
        {"state": "success", "name": "boxsched/web", "ref": "main"},
    ),
    (
        "bitbucket",
        "https://bitbucket.org/acme/shop.git",
        f"https://api.bitbucket.org/2.0/repositories/acme/shop/commit/{SHA}/statuses/build",
        {"state": "SUCCESSFUL", "key": "boxsched/web", "url": "https://ci.example/#w9"},
    ),
    (
        "bitbucket-server",
        "https://bb.example:7990/scm/ACME/shop.git",
        f"https://bb.example:7990/rest/build-status/1.0/commits/{SHA}",
        {"state": "SUCCESSFUL", "key": "boxsched/web"},
    ),
    (
        "gitea",
        "https://gitea.example/acme/shop.git",
        f"https://gitea.example/api/v1/repos/acme/shop/statuses/{SHA}",
        {"state": "success", "context": "boxsched/web"},
    ),
    (
        "forgejo",
        "git@codeberg.org:acme/shop.git",
        f"https://codeberg.org/api/v1/repos/acme/shop/statuses/{SHA}",
        {"state": "success"},
    ),
]


@pytest.mark.parametrize(("provider", "git", "url", "has"), TABLE)
def test_a_status_has_the_shape_of_its_provider(
    provider: str, git: str, url: str, has: dict[str, str]
) -> None:
    where = repository(git)
    api = statuses.default_api(provider, where)
    assert api is not None
    made = statuses.request(provider, api, where, STATUS, "t0ken")
    assert made.url == url
    assert has.items() <= json.loads(made.body).items()
    assert "t0ken" not in made.url + made.body.decode() + repr(made)
    assert any("t0ken" in value for value in made.headers.values())


@pytest.mark.parametrize("provider", statuses.PROVIDERS)
@pytest.mark.parametrize("shown", Shown)
def test_every_state_has_a_word_of_every_provider(provider: str, shown: Shown) -> None:
    status = Status(shown, SHA, "web", 1, None, "v1", None)
    made = statuses.request(provider, "https://api/", repository("git@h:a/b"), status, "u:p")
    assert json.loads(made.body)["state"]
    assert made.url.startswith("https://api/")
    assert "//" not in made.url.removeprefix("https://")


def test_states_that_differ_between_providers() -> None:
    words = {
        provider: [
            json.loads(
                statuses.request(
                    provider,
                    "https://api",
                    repository("git@h:a/b"),
                    Status(shown, SHA, "web", 1, "main", None, None),
                    "t",
                ).body
            )["state"]
            for shown in Shown
        ]
        for provider in statuses.PROVIDERS
    }
    assert words["github"] == ["pending", "pending", "success", "failure", "error", "error"]
    assert words["gitlab"] == ["pending", "running", "success", "failed", "canceled", "canceled"]
    assert words["bitbucket"][2:] == ["SUCCESSFUL", "FAILED", "STOPPED", "STOPPED"]
    assert words["bitbucket-server"][2:] == ["SUCCESSFUL", "FAILED", "FAILED", "FAILED"]
    assert words["gitea"] == words["forgejo"] == words["github"]


def test_a_long_context_of_bitbucket_is_cut_to_its_limit() -> None:
    keys = set()
    for name in ("x" * 60 + "1", "x" * 60 + "2"):
        status = Status(Shown.PASSED, SHA, name, 1, "main", None, None)
        made = statuses.request("bitbucket", "https://a", repository("git@h:a/b"), status, "t")
        keys.add(json.loads(made.body)["key"])
    assert len(keys) == 2 and max(map(len, keys)) == 40


def test_a_hook_is_signed_as_the_generic_webhook() -> None:
    made = hooks.request("https://r/x", "d1", "workload.finished", "T", {"id": "w"}, "s3", 1000.9)
    stamp = made.headers["X-Boxsched-Timestamp"]
    expected = hmac.new(b"s3", stamp.encode() + b"." + made.body, hashlib.sha256).hexdigest()
    assert stamp == "1000"
    assert made.headers["X-Boxsched-Signature"] == f"sha256={expected}"
    assert made.headers["X-Boxsched-Delivery"] == "d1"
    assert json.loads(made.body) == {
        "delivery": "d1", "type": "workload.finished", "at": "T", "workload": {"id": "w"},
    }  # fmt: skip


def test_a_hook_without_a_secret_is_not_signed() -> None:
    made = hooks.request("https://r/x", "d1", "workload.finished", "T", {}, None, 0.0)
    assert not {"X-Boxsched-Timestamp", "X-Boxsched-Signature"} & made.headers.keys()


def test_a_delivery_id_is_of_one_notification() -> None:
    one = hooks.delivery_id("cluster", 7, 5.25)
    assert one == hooks.delivery_id("cluster", 7, 5.25)
    others = {hooks.delivery_id(*of) for of in (("c2", 7, 5.25), ("cluster", 8, 5.25))}
    assert one not in others and len(others) == 2


def test_pauses_double_up_to_an_hour_with_jitter() -> None:
    assert [pause_after(n, 0.5) for n in (1, 2, 3, 4)] == [5.0, 10.0, 20.0, 40.0]
    assert pause_after(1_000, 0.5) == 3_600.0
    assert (pause_after(1, 0.0), pause_after(1, 1.0)) == (2.5, 7.5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0),
        ("120", 120.0),
        ("9" * 40, 86_400.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float) -> None:
    assert retry_after(text, 100.0) == seconds
