"""How a project's repository is cloned: the depth of the history, and submodules."""

from pathlib import Path

import pytest

from boxsched.protocol.assignments import CloneOptions
from boxsched.states import Result
from tests.worker.harness import AgentHarness, assigned
from tests.worker.test_git import commit, git, repository

__all__ = ["repository"]

COUNT = "git rev-list --count HEAD; cat file"
SHALLOW = CloneOptions(depth=1)
DEEP = CloneOptions(submodules=True)


async def test_without_a_depth_the_whole_history_is_cloned(
    harness: AgentHarness, repository: Path
) -> None:
    await harness.run(COUNT, repository=str(repository), branch="feature/x")
    assert harness.log() == b"3\nthird\n"


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({"branch": "feature/x"}, b"third"),
        ({"branch": None, "tag": "v1.1"}, b"third"),
        ({"branch": None, "server": "production"}, b"second"),
    ],
)
async def test_a_depth_limits_the_history(
    harness: AgentHarness, repository: Path, depth: int, what: dict[str, str], text: bytes
) -> None:
    git(repository, "tag", "-a", "-m", "annotated", "v1.1", "feature/x")
    git(repository, "branch", "v1.1", "v1")  # a branch of the same name is something else
    wants = CloneOptions(depth=depth)
    await harness.run(f"{COUNT}; git tag", repository=str(repository), clone=wants, **what)
    tags = b"v1.1\n" if what.get("tag") else b""
    assert harness.log() == b"%d\n%s\n%s" % (depth, text, tags)


@pytest.mark.parametrize(("digits", "commits"), [(40, b"1"), (9, b"2")])
async def test_a_commit_is_found_at_any_depth(
    harness: AgentHarness, repository: Path, digits: int, commits: bytes
) -> None:
    """The prefix of a hash needs the whole history."""
    second = git(repository, "rev-parse", "main")[:digits].upper()
    await harness.run(COUNT, repository=str(repository), clone=SHALLOW, commit=second)
    assert harness.log() == commits + b"\nsecond\n"


async def test_a_commit_that_no_branch_holds_is_fetched_by_itself(
    harness: AgentHarness, repository: Path
) -> None:
    git(repository, "checkout", "--detach")
    proposed = commit(repository, "proposed")
    git(repository, "update-ref", "refs/pull/1/head", proposed)
    git(repository, "checkout", "main")
    asked = {"branch": "pull-request-1", "commit": proposed, "clone": SHALLOW}
    await harness.run(COUNT, repository=str(repository), **asked)
    assert harness.log() == b"1\nproposed\n"


async def test_a_server_that_does_not_serve_single_commits(
    harness: AgentHarness, repository: Path
) -> None:
    first = git(repository, "rev-parse", "v1")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "false")
    old = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.version"}
    asked = {"commit": first, "clone": SHALLOW, "environment": old | {"GIT_CONFIG_VALUE_0": "0"}}
    finished = await harness.run(COUNT, repository=str(repository), **asked)
    assert finished.result is Result.PASSED, harness.log()
    assert harness.log().endswith(b"1\nfirst\n")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"branch": "v1"}, "git found no branch v1 in the repository"),
        (
            {"branch": None, "tag": "main"},
            "git found no commit with the tag main in the repository",
        ),
        (
            {"commit": "a" * 40},
            f"git found no commit {'a' * 40} in the repository, or more than one",
        ),
    ],
)
async def test_missing_branches_tags_and_commits_fail_the_job(
    harness: AgentHarness, repository: Path, what: dict[str, str], reason: str
) -> None:
    finished = await harness.run("true", repository=str(repository), clone=SHALLOW, **what)
    assert (finished.reason or "").startswith(reason), harness.log()


async def test_a_missing_repository_fails_the_job(harness: AgentHarness, tmp_path: Path) -> None:
    finished = await harness.run("true", repository=str(tmp_path / "none"), clone=SHALLOW)
    assert finished.reason == "git fetch failed with exit status 1"
    assert b"does not appear to be a git repository" in harness.log()


async def test_the_commit_of_another_job_is_fetched_after_its_branch_moved(
    harness: AgentHarness, repository: Path
) -> None:
    old = git(repository, "rev-parse", "main")
    commit(repository, "newer")
    harness.store.commits[assigned(1).workload] = old
    await harness.run(COUNT, repository=str(repository), clone=SHALLOW)
    assert harness.log() == b"1\nsecond\n"


@pytest.mark.parametrize(
    "branch", ["--upload-pack=touch HIT;", "$(touch HIT)", "a:refs/heads/b", "*", "a b", ""]
)
async def test_hostile_branch_names_run_nothing(
    harness: AgentHarness, repository: Path, branch: str, tmp_path: Path
) -> None:
    hit = tmp_path / "hit"
    asked = {"branch": branch.replace("HIT", str(hit)), "clone": SHALLOW}
    finished = await harness.run("echo unreached", repository=str(repository), **asked)
    assert finished.result is Result.FAILED
    assert not hit.exists()
    assert b"unreached" not in harness.log()


# --- Submodules -----------------------------------------------------------------------------


def with_submodule(repository: Path, url: str, *more: str) -> None:
    """Commit these lines as ``.gitmodules``; git itself may refuse to write them."""
    lines = ['[submodule "lib"]', "path = lib", f"url = {url}", *more]
    (repository / ".gitmodules").write_text("\n".join(lines) + "\n")
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "add", ".gitmodules")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},lib")
    made = git(repository, "commit-tree", "-p", head, "-m", "x", git(repository, "write-tree"))
    git(repository, "update-ref", "refs/heads/main", made)


@pytest.mark.parametrize("clone", [None, SHALLOW])
async def test_submodules_are_cloned_only_if_requested(
    harness: AgentHarness, repository: Path, clone: CloneOptions | None
) -> None:
    with_submodule(repository, "ext::false")
    finished = await harness.run("ls -A lib", repository=str(repository), clone=clone)
    assert (finished.result, harness.log()) == (Result.PASSED, b"")


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("ext::sh -c touch% HIT", ()),
        ("--upload-pack=touch HIT", ()),
        ("REPOSITORY", ()),
        ("file://REPOSITORY", ()),
        ("../repository", ()),
        ("http://127.0.0.1:9/x", ()),
        ("git://127.0.0.1:9/x", ()),
        ("ssh://-oProxyCommand=touch HIT/x", ()),
        ("https://127.0.0.1:9/x", ("update = !touch HIT",)),
        ("https://127.0.0.1:9/x", ("path = .git/hooks",)),
    ],
)
async def test_submodule_urls_of_a_repository_are_untrusted(
    harness: AgentHarness, repository: Path, tmp_path: Path, url: str, more: tuple[str, ...]
) -> None:
    hit = tmp_path / "hit"
    text = url.replace("HIT", str(hit)).replace("REPOSITORY", str(repository))
    with_submodule(repository, text, *(line.replace("HIT", str(hit)) for line in more))
    finished = await harness.run("echo unreached", repository=str(repository), clone=DEEP)
    assert finished.result is Result.FAILED, harness.log()
    assert finished.reason == "git cannot get the repository's submodules", harness.log()
    assert not hit.exists()
    assert b"unreached" not in harness.log()
