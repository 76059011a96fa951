"""Whether a payload is about the repository that the settings name."""

import pytest

from boxsched.webhooks.events import Ignored, ParsedDelivery
from boxsched.webhooks.repositories import names_repository, shown_repository

GITHUB = (
    "https://github.com/Octo/Hello.git",
    "git@github.com:Octo/Hello.git",
    "https://github.com/Octo/Hello",
    "Octo/Hello",
)
SERVER = (
    "ssh://git@bitbucket.local:7999/~ann/web.git",
    "https://bitbucket.local/scm/~ann/web.git",
    "~ann/web",
)
GITEA = ("http://git.local:3000/ann/web.git", "ssh://git@git.local:2222/ann/web.git")
NAME_ONLY = ("PROJ/web",)
FOLDER = ("file:///srv/git/web.git",)


def of(repositories):
    return ParsedDelivery(
        event="push",
        id=None,
        repositories=repositories,
        default_branch=None,
        events=(Ignored("x"),),
    )


def names(repositories, url):
    return names_repository(of(repositories), url)


@pytest.mark.parametrize(
    ("repositories", "url"),
    [
        (GITHUB, "https://github.com/Octo/Hello"),
        (GITHUB, "https://github.com/octo/hello.git/"),
        (GITHUB, "https://GitHub.com/Octo/Hello.git"),
        (GITHUB, "https://token@github.com:443/Octo/Hello"),
        (GITHUB, "git@github.com:Octo/Hello.git"),
        (GITHUB, "github.com:Octo/Hello"),
        (GITHUB, "ssh://git@github.com/Octo/Hello"),
        (GITHUB, "ssh://git@ssh.github.com:443/Octo/Hello.git"),
        (GITHUB, "https://github.com./Octo/Hello"),
        (SERVER, "https://bitbucket.local/scm/~ann/web.git"),
        (SERVER, "https://bitbucket.local/scm/%7Eann/web.git"),
        (SERVER, "ssh://git@bitbucket.local:7999/~ann/web.git"),
        (GITEA, "http://git.local/ann/web"),
        (GITEA, "git@git.local:ann/web"),
        (("https://[::1]:3000/a/b",), "ssh://git@[::1]:22/a/b"),
        (NAME_ONLY, "https://bitbucket.local/scm/proj/web.git"),
        (NAME_ONLY, "ssh://git@bitbucket.local:7999/PROJ/web.git"),
        (FOLDER, "/srv/git/web.git"),
        (FOLDER, "file:///srv/git/web"),
    ],
)
def test_one_repository_has_several_names(repositories, url):
    assert names(repositories, url)


@pytest.mark.parametrize(
    ("repositories", "url"),
    [
        (GITHUB, "https://github.com/Octo/Hello2"),
        (GITHUB, "https://github.com/other/Hello"),
        (GITHUB, "https://github.com/Hello"),
        (GITHUB, "https://gitlab.com/Octo/Hello"),
        (GITHUB, "https://github.com.example.com/Octo/Hello"),
        (GITHUB, "https://example.com/github.com/Octo/Hello"),
        (GITHUB, "git@example.com:Octo/Hello.git"),
        (SERVER, "https://bitbucket.local/scm/~bob/web.git"),
        (NAME_ONLY, "https://bitbucket.local/scm/otherproj/web.git"),
        (NAME_ONLY, "https://bitbucket.local/scm/proj/web2.git"),
        (FOLDER, "/srv/git/other.git"),
        (("https://[::1/x", "https://host:port/a/b"), "https://host/a/b"),
    ],
)
def test_another_repository_is_recognized(repositories, url):
    assert not names(repositories, url)


def test_the_first_name_is_shown_in_a_reason():
    assert shown_repository(of(GITHUB)) == "https://github.com/Octo/Hello.git"
    odd = "https://x/\x1b[1m\n" + "a" * 500
    assert shown_repository(of((odd,))) == "https://x/[1m " + "a" * 185 + "…"
    assert shown_repository(of(())) == ""


def test_names_that_cannot_be_compared_count_as_equal():
    assert names((), "https://github.com/Octo/Hello")
    assert names(GITHUB, "/srv/git/mirror.git")
    assert names(NAME_ONLY, "file:///srv/git/mirror.git")
