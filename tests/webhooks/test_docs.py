"""docs/webhooks.md lists exactly the reasons that are given."""

import re

import pytest

from tests.conftest import PROJECT
from tests.webhooks.sample_payloads import (
    NULL,
    cloud_push,
    cloud_ref,
    delivery,
    github_push,
    github_request,
    gitlab_request,
    line_of_delivery,
)

PAGE = (PROJECT / "docs" / "webhooks.md").read_text()


def rows(heading):
    """Return the first cells of the table under a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)


def push(**parts):
    return line_of_delivery("github", "push", github_push(**parts))


def given():
    many = cloud_push(*[{"new": cloud_ref(f"b{i}")} for i in range(120)])
    return {
        line_of_delivery("github", "ping", {}),
        push(head_commit={"id": "a" * 40, "message": "x [skip ci]"}),
        push(ref="refs/tags/v1", after=NULL),
        line_of_delivery("github", "create", {}),
        push(ref="refs/notes/x"),
        push(ref="refs/heads/a b"),
        push(after="HEAD"),
        line_of_delivery("github", "pull_request", github_request("labeled")),
        line_of_delivery("gitlab", None, gitlab_request("update")),
        line_of_delivery("github", "issues", {}),
        line_of_delivery("github", None, {}),
        f"ignored: {delivery('bitbucket', 'repo:push', many).events[-1].reason}",
    }


def test_each_reason_in_the_table_is_given():
    reasons = rows("What is ignored")
    assert len(reasons) == 12
    for reason in reasons:
        start = "ignored: " + reason.removesuffix("...")
        whole = reason.endswith("...")
        assert any(line.startswith(start) if whole else line == start for line in given()), reason


@pytest.mark.parametrize("tag", re.findall(r"`(\[.+?\])`", PAGE.split("\n## Skip tags\n")[1]))
def test_each_skip_tag_on_the_page_skips(tag):
    line = push(head_commit={"id": "a" * 40, "message": f"x {tag}"})
    assert line == f"ignored: a skip tag in the message: {tag}"
