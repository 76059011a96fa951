"""The requests to code hosts and hooks: pure functions, from values to values."""

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
    # provider, repository, its URL, and the expected body
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
def test_every_state_has_a_value_for_every_provider(provider: str, shown: Shown) -> None:
    status = Status(shown, SHA, "web", 1, None, "v1", None)
    made = statuses.request(provider, "https://api/", repository("git@h:a/b"), status, "u:p")
    assert json.loads(made.body)["state"]
    assert made.url.startswith("https://api/")
    assert "//" not in made.url.removeprefix("https://")


def test_some_states_differ_between_providers() -> None:
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


def test_a_status_describes_the_result_of_a_build() -> None:
    said = [Status(shown, SHA, "web", 12, "main", None, None).description for shown in Shown]
    assert said == [
        "build #12 waits", "build #12 is running", "build #12 passed", "build #12 failed",
        "build #12 stopped", "build #12 canceled",
    ]  # fmt: skip
    long = Status(Shown.PASSED, SHA, "web", 10**150, "main", None, None).description
    assert long == f"build #1{'0' * 132}", "140 characters"


@pytest.mark.parametrize("provider", statuses.PROVIDERS)
def test_every_provider_gets_the_description_and_the_link(provider: str) -> None:
    made = statuses.request(provider, "https://api", repository("git@h:a/b"), STATUS, "t")
    body = json.loads(made.body)
    assert body["description"] == "build #12 passed"
    assert "https://ci.example/#w9" in (body.get("target_url"), body.get("url"))
    assert made.headers["Content-Type"] == "application/json"
    assert made.headers["User-Agent"].startswith("boxsched")


@pytest.mark.parametrize("provider", statuses.PROVIDERS)
def test_without_a_link_each_provider_gets_nothing_or_its_required_value(provider: str) -> None:
    status = Status(Shown.PASSED, SHA, "web", 12, None, "v1", None)
    made = statuses.request(provider, "https://api", repository("git@h:a/b"), status, "t")
    body = json.loads(made.body)
    assert None not in body.values()
    needed = {
        "bitbucket": f"https://bitbucket.org/a/b/commits/{SHA}",
        "bitbucket-server": "https://api",
    }
    assert (body.get("target_url"), body.get("url")) == (None, needed.get(provider))
    assert body.get("ref", "v1") == "v1", "GitLab gets the tag"


def test_bitbucket_accepts_a_token_or_a_name_with_a_password() -> None:
    for token, sent in (("t0ken", "Bearer t0ken"), ("user:pass", "Basic dXNlcjpwYXNz")):
        made = statuses.request("bitbucket", "https://a", repository("git@h:a/b"), STATUS, token)
        assert made.headers["Authorization"] == sent


@pytest.mark.parametrize(
    ("provider", "api"),
    [
        ("github", None),
        ("gitlab", None),
        ("gitea", None),
        ("bitbucket-server", None),
        ("bitbucket", "https://api.bitbucket.org/2.0"),
    ],
)
def test_a_local_folder_has_no_api(provider: str, api: str | None) -> None:
    assert statuses.default_api(provider, repository("/srv/a/b")) == api


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://h/a/b.git/", "h", "a/b"),
        ("https://user@h:8443/a/b", "h:8443", "a/b"),
        ("http://h:8080/a/b", "h", "a/b"),
        ("ssh://git@h:2222/g/s/b.git", "h", "g/s/b"),
        ("ssh://git@[::1]:2222/a/b", "[::1]", "a/b"),
        ("https://[::1]:8443/a/b", "[::1]:8443", "a/b"),
        ("git@h:a/b.git", "h", "a/b"),
        ("h:/a/b/", "h", "a/b"),
        ("[::1]:a/b", "[::1]", "a/b"),
        ("/srv/a:b/c.git", "", "srv/a:b/c"),
        ("file:///srv/a/b", "", "srv/a/b"),
        ("a/b", "", "a/b"),
    ],
)
def test_host_and_path_of_a_repository_are_recognized(url: str, host: str, path: str) -> None:
    found = repository(url)
    assert (found.host, found.path) == (host, path)
    assert found.owner_and_name == "/".join(path.split("/")[-2:])


def test_a_context_of_bitbuckets_limit_stays_unchanged() -> None:
    for length, key in ((31, f"boxsched/{'x' * 31}"), (32, None)):
        status = Status(Shown.PASSED, SHA, "x" * length, 1, "main", None, None)
        made = statuses.request("bitbucket", "https://a", repository("git@h:a/b"), status, "t")
        found = json.loads(made.body)["key"]
        assert len(found) == 40
        assert found == key or found.startswith(f"boxsched/{'x' * 22}-")


def test_a_long_context_of_bitbucket_is_cut_to_its_limit() -> None:
    keys = set()
    for name in ("x" * 60 + "1", "x" * 60 + "2"):
        status = Status(Shown.PASSED, SHA, name, 1, "main", None, None)
        made = statuses.request("bitbucket", "https://a", repository("git@h:a/b"), status, "t")
        keys.add(json.loads(made.body)["key"])
    assert len(keys) == 2 and max(map(len, keys)) == 40


def test_a_hook_is_signed_like_the_generic_webhook() -> None:
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


def test_a_delivery_id_belongs_to_one_notification() -> None:
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
        ("1 Jan 99999999999999 00:00:00 +0000", 0.0),
        ("1 Jan 2020 00:00:00 +99999999999999999999", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float) -> None:
    assert retry_after(text, 100.0) == seconds
