"""Which URLs a project's repository may have."""

import pytest

from boxsched.api.messages.repository_urls import ALLOWED, check_repository
from boxsched.errors import Invalid


@pytest.mark.parametrize(
    "text",
    [
        "https://git.example/acme/shop.git", "https://user@git.example:8443/a", "https://[::1]/a",
        "https://h:1/a", "ssh://git@h:2222/a", "ssh://h/a", "git@h:a/b.git", "h:a", "[::1]:a/b",
        "user@[::1]:a", "/srv/a", "file:///srv/a",
    ],
)  # fmt: skip
def test_urls_that_git_may_fetch_are_allowed(text: str) -> None:
    check_repository(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("http://h/a", "http:// is not allowed"),
        ("git://h/a", "git:// is not allowed"),
        ("ftp://h/a", "ftp:// is not allowed"),
        ("https://h:0/a", "this is not the URL of a repository"),
        ("https://h:65536/a", "this is not the URL of a repository"),
        ("https://h:x/a", "this is not the URL of a repository"),
        ("https:///a", "this is not the URL of a repository"),
        ("https://[::1/a", "this is not the URL of a repository"),
        ("ssh://-oProxyCommand=x/a", "this is not the URL of a repository"),
        ("file://h/a", "this is not the URL of a repository"),
        ("ext::sh -c id", "this is not the URL of a repository"),
        ("a b://h/x", "this is not the URL of a repository"),
        ("-x@h:a", "this is not the URL of a repository"),
        ("-h:a", "this is not the URL of a repository"),
        ("h: a", "this is not the URL of a repository"),
        ("h:", "this is not the URL of a repository"),
        ("a/b", "this is not the URL of a repository"),
        ("https:/h/a", "this is not the URL of a repository"),
        ("HTTP:x", "this is not the URL of a repository"),
        ("", "this is not the URL of a repository"),
    ],
)
def test_other_urls_are_refused_with_the_allowed_forms(text: str, what: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_repository(text, "repository")
    assert refused.value.message == f"{what}; allowed: {ALLOWED}"
    assert refused.value.field == "repository"


@pytest.mark.parametrize(
    "text", ["https://ada:s3cret@h/a.git", "ssh://git:s3cret@h/a", "https://:x@h/a"]
)
def test_a_password_has_no_place_in_a_url(text: str) -> None:
    with pytest.raises(
        Invalid, match=r"must not contain a password: give it as git_credentials"
    ) as refused:
        check_repository(text, "repository")
    assert refused.value.field == "repository"
    assert "s3cret" not in refused.value.message
