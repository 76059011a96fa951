"""Targets of notifications: how a URL is read, and names that stay with it."""

import pytest

from boxsched.errors import Invalid
from boxsched.outgoing.targets import hook_name, host_of


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Hooks.Example/x?y=1", "hooks.example:443"),
        ("http://hooks.example", "hooks.example:80"),
        ("https://hooks.example:8443/", "hooks.example:8443"),
        ("http://10.0.0.1:80/", "10.0.0.1:80"),
    ],
)
def test_deliveries_are_counted_by_host_and_port(url: str, host: str) -> None:
    assert host_of(url, "hooks[0].url") == host


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h:x/", "must be a URL such as https://HOST/PATH"),
        ("http://h:99999/", "must be a URL such as https://HOST/PATH"),
        ("ftp://h/x", "must be a URL that begins with https:// or http://"),
        ("https:///x", "must be a URL that begins with https:// or http://"),
        ("https://h:0/", "must be a URL that begins with https:// or http://"),
        ("h/x", "must be a URL that begins with https:// or http://"),
        ("", "must be a URL that begins with https:// or http://"),
        ("https://user@h/", "must not contain a user name or password"),
        ("https://:secret@h/", "must not contain a user name or password"),
    ],
)
def test_an_invalid_target_is_refused_with_its_field(url: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        host_of(url, "hooks[0].url")
    assert (refused.value.message, refused.value.field) == (said, "hooks[0].url")


def test_a_hook_has_another_name_when_its_url_changes() -> None:
    names = [hook_name(f"https://h/{path}") for path in ("a", "b", "a")]
    assert names[0] == names[2] != names[1]
    assert [len(name) for name in names] == [len("hook.") + 32] * 3
