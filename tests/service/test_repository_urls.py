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
def test_what_git_may_fetch_is_allowed(text: str) -> None:
    check_repository(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("http://h/a", "http:// is not allowed"),
        ("git://h/a", "git:// is not allowed"),
        ("ftp://h/a", "ftp:// is not allowed"),
        ("https://h:0/a", "this is no repository's URL"),
        ("https://h:65536/a", "this is no repository's URL"),
        ("https://h:x/a", "this is no repository's URL"),
        ("https:///a", "this is no repository's URL"),
        ("https://[::1/a", "this is no repository's URL"),
        ("ssh://-oProxyCommand=x/a", "this is no repository's URL"),
        ("file://h/a", "this is no repository's URL"),
        ("ext::sh -c id", "this is no repository's URL"),
        ("a b://h/x", "this is no repository's URL"),
        ("-x@h:a", "this is no repository's URL"),
        ("-h:a", "this is no repository's URL"),
        ("h: a", "this is no repository's URL"),
        ("h:", "this is no repository's URL"),
        ("a/b", "this is no repository's URL"),
        ("https:/h/a", "this is no repository's URL"),
        ("HTTP:x", "this is no repository's URL"),
        ("", "this is no repository's URL"),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str, what: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_repository(text, "repository")
    assert refused.value.message == f"{what}; allowed: {ALLOWED}"
    assert refused.value.field == "repository"
