"""Names that are invalid in git are refused when they are sent, where git would use them."""

import subprocess
from pathlib import Path

import pytest

from boxsched.errors import Invalid
from boxsched.refs import check_branch, check_tag
from tests.service.running_service import API, PUBLIC_KEY, RunningService

REPOSITORY = {"repository": "https://git.example.org/web.git"}

NAMES = [
    "main", "feature/x", "a.b", "x.locked", "lock", "a@b", "@", "a-", "a{b}", "$(id)", "é",
    "a..b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "a@{b", "a b", "a~", "a^", "a:b", "a?", "a*",
    "a[b", "a\\b", "a//b", "/a", "a/", "..", ".", "a./b", "@{",
]  # fmt: skip


def refused(name: str) -> bool:
    try:
        check_tag(name, "tag")
    except Invalid:
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_names_that_git_refuses_are_refused(name: str, tmp_path: Path) -> None:
    said = subprocess.run(["git", "check-ref-format", f"refs/tags/{name}"], cwd=tmp_path)
    assert refused(name) == (said.returncode != 0)


def test_head_is_not_a_branch() -> None:
    with pytest.raises(Invalid, match="HEAD"):
        check_branch("HEAD", "branch")
    assert not refused("HEAD")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("builds", {"branch": "a..b"}, "branch"),
        ("builds", {"branch": "HEAD"}, "branch"),
        ("builds", {"tag": "v1.lock"}, "tag"),
        ("ssh-sessions", {"branch": "a b", "public_key": PUBLIC_KEY}, "branch"),
    ],
)
async def test_a_submission_with_an_invalid_name(
    service: RunningService, path: str, body: object, field: str
) -> None:
    await service.project("web", **REPOSITORY)
    answer = await service.call("POST", f"{API}/projects/web/{path}", body)
    assert (answer.status, answer.error["field"]) == (422, field)


async def test_a_branch_that_git_does_not_look_up_may_have_any_name(
    service: RunningService,
) -> None:
    """Its commit is given, or there is no repository and the branch is only a lane."""
    await service.project("web", **REPOSITORY)
    await service.build(branch="a b", commit="a" * 40)
    await service.project("lanes")
    await service.build("lanes", branch="a b")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"default_branch": "a..b"}, "default_branch"),
        ({"servers": {"production": {"branch": "HEAD"}}}, "servers.production.branch"),
        ({"schedules": [{"cron": "0 3 * * *", "branch": "a~1"}]}, "schedules[0].branch"),
    ],
)
async def test_a_project_with_an_invalid_name(
    service: RunningService, settings: dict[str, object], field: str
) -> None:
    answer = await service.project("web", **REPOSITORY, **settings)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert (await service.project("web", **settings)).status == 201
