"""All jobs and attempts of a workload run one commit: the first that any of them found."""

import subprocess
from pathlib import Path

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.model import Kind, WorkloadId
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from tests.worker.harness import AgentHarness, assigned, eventually, job
from tests.worker.test_git import SHOW, commit, git

RAN = "git rev-parse HEAD; echo $BOXSCHED_COMMIT; cat file"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    commit(folder, "first")
    return folder


def ran(hash_: str, text: str) -> bytes:
    return f"{hash_}\n{hash_}\n{text}\n".encode()


async def second_attempt(harness: AgentHarness, *commands: str, **other: object) -> JobFinished:
    """Run a job as another worker that was assigned it before the first one had an answer."""
    harness.store.reports.clear()
    harness.store.chunks.clear()
    await harness.agent.reconcile([assigned(1, *commands, attempt=2, lease_token=2, **other)])
    return await harness.end(1)


async def test_a_second_attempt_runs_the_commit_of_the_first(
    harness: AgentHarness, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    finished = await harness.run(RAN, repository=str(repository))
    assert (harness.log(), finished.commit) == (ran(first, "first"), first)
    commit(repository, "second")
    finished = await second_attempt(harness, RAN, repository=str(repository))
    assert (finished.result, finished.commit) == (Result.PASSED, first)
    assert harness.log() == ran(first, "first")


async def test_two_concurrent_jobs_agree_before_their_commands_start(
    harness: AgentHarness, repository: Path, tmp_path: Path
) -> None:
    """Both have found different commits before either is answered."""
    harness.store.away = StoreAway("away")
    first = git(repository, "rev-parse", "HEAD")
    jobs = [assigned(n, f"touch {tmp_path}/ran", RAN, repository=str(repository)) for n in (1, 2)]
    await harness.agent.reconcile(jobs[:1])
    await eventually((harness.folder / "w1-1-1/found").exists)
    second = commit(repository, "second")
    await harness.agent.reconcile(jobs)
    await eventually((harness.folder / "w2-1-1/found").exists)
    assert not (tmp_path / "ran").exists()
    # because others were faster
    harness.store.commits = {WorkloadId(1): second, WorkloadId(2): first}
    harness.store.away = None
    assert (await harness.end(1)).commit == second
    assert (await harness.end(2)).commit == first
    assert (harness.log(1), harness.log(2)) == (ran(second, "second"), ran(first, "first"))


async def test_a_commit_that_left_its_branch_still_runs(
    harness: AgentHarness, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    harness.store.commits[WorkloadId(1)] = first
    (repository / "file").write_text("other\n")
    git(repository, "commit", "--amend", "--all", "-m", "other")
    await harness.run(RAN, repository=f"file://{repository}")
    assert harness.log() == ran(first, "first")


async def test_a_missing_commit_fails_the_job(harness: AgentHarness, repository: Path) -> None:
    harness.store.commits[WorkloadId(1)] = "0" * 40
    finished = await harness.run("echo unreached", repository=str(repository))
    assert (finished.result, finished.exit_status) == (Result.FAILED, None)
    assert finished.reason == "git cannot check out the commit that it runs"
    assert b"unreached" not in harness.log()


async def test_a_whole_hash_needs_no_lookup(harness: AgentHarness, repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, "second")
    await harness.run(RAN, repository=str(repository), commit=first)
    assert harness.log() == ran(first, "first")
    assert harness.store.found == []


@pytest.mark.parametrize("restart", [True, False])
async def test_a_job_asks_again_while_the_store_is_away(
    harness: AgentHarness, repository: Path, restart: bool
) -> None:
    harness.store.away = StoreAway("away")
    await harness.agent.reconcile([assigned(1, SHOW, repository=str(repository))])
    await eventually((harness.folder / "w1-1-1/found").exists)
    if restart:
        await harness.restart()
    harness.store.away = None
    await harness.agent.reconcile([assigned(1, SHOW, repository=str(repository))])
    assert (await harness.end(1)).result is Result.PASSED
    assert harness.log() == b"first\nfirst\n"


async def test_an_attempt_whose_lease_is_over_never_starts(
    harness: AgentHarness, repository: Path
) -> None:
    harness.store.stale.add((job(1), 1))
    finished = await harness.run("echo unreached", repository=str(repository))
    assert finished.result is Result.STOPPED
    assert b"unreached" not in harness.log()


async def test_a_job_that_asks_for_its_commit_can_be_stopped(
    harness: AgentHarness, repository: Path
) -> None:
    harness.store.away = StoreAway("away")
    wanted = assigned(1, "echo unreached", repository=str(repository))
    await harness.agent.reconcile([wanted])
    await eventually((harness.folder / "w1-1-1/found").exists)
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True, stop_reason="stopped by me")])
    await eventually((harness.folder / "w1-1-1/result").exists)
    harness.store.away = None
    assert (await harness.end(1)).result is Result.STOPPED
    assert harness.log() == b"[boxsched: stopped by me]\n"


async def test_the_time_limit_holds_while_a_job_asks(
    harness: AgentHarness, repository: Path
) -> None:
    harness.store.away = StoreAway("away")
    asks = {"repository": str(repository), "timeout_seconds": 3.0}
    await harness.agent.reconcile([assigned(1, "echo unreached", **asks)])
    await eventually((harness.folder / "w1-1-1/result").exists)
    harness.store.away = None
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "time limit of 3 s")
    assert b"unreached" not in harness.log()


# --- Names ----------------------------------------------------------------------------------


async def test_a_tag_is_not_a_branch(harness: AgentHarness, repository: Path) -> None:
    git(repository, "tag", "release")
    git(repository, "tag", "refs/remotes/origin/other")
    for number, branch in enumerate(("release", "other"), start=1):
        wanted = assigned(number, "echo unreached", repository=str(repository), branch=branch)
        await harness.agent.reconcile([wanted])
        finished = await harness.end(number)
        assert finished.reason == f"git found no branch {branch} in the repository"


async def test_a_branch_is_not_a_tag(harness: AgentHarness, repository: Path) -> None:
    git(repository, "branch", "release")
    finished = await harness.run("true", repository=str(repository), branch=None, tag="release")
    assert finished.reason == "git found no commit with the tag release in the repository"


@pytest.mark.parametrize("what", ["HEAD:file", "HEAD^{tree}"])
async def test_a_tag_that_is_not_a_commit_fails_the_job(
    harness: AgentHarness, repository: Path, what: str
) -> None:
    git(repository, "tag", "odd", what)
    finished = await harness.run("true", repository=str(repository), branch=None, tag="odd")
    assert finished.reason == "git found no commit with the tag odd in the repository"
    assert (finished.result, finished.commit) == (Result.FAILED, None)
    assert b"expected commit type" in harness.log()


async def test_no_branch_is_named_head(harness: AgentHarness, repository: Path) -> None:
    finished = await harness.run("true", repository=str(repository), branch="HEAD")
    assert finished.reason == "a branch cannot have the name HEAD"


async def test_an_annotated_tag_is_its_commit(harness: AgentHarness, repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "--annotate", "v1", "-m", "one")
    finished = await harness.run(RAN, repository=str(repository), branch=None, tag="v1")
    assert (finished.commit, harness.log()) == (first, ran(first, "first"))


async def test_a_tag_that_is_moved_between_two_jobs_changes_no_commit(
    harness: AgentHarness, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "v1")
    asks = {"repository": str(repository), "branch": None, "tag": "v1"}
    await harness.run(RAN, **asks)
    commit(repository, "second")
    git(repository, "tag", "--force", "v1")
    assert (await second_attempt(harness, RAN, **asks)).commit == first


async def test_a_deploy_of_the_default_branch_runs_one_commit(
    harness: AgentHarness, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    asks = {"repository": str(repository), "branch": None, "server": "s", "kind": Kind.DEPLOY}
    await harness.run(RAN, **asks)
    commit(repository, "second")
    assert (await second_attempt(harness, RAN, **asks)).commit == first


@pytest.mark.parametrize("case", [str.lower, str.upper])
async def test_a_short_hash_is_never_a_ref(
    harness: AgentHarness, repository: Path, case: type[str]
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, "second")
    for digits in range(7, 12):  # each a branch, a tag and a remote branch that is another commit
        for kind in ("heads", "tags", "remotes/origin"):
            git(repository, "update-ref", f"refs/{kind}/{first[:digits]}", "HEAD")
    finished = await harness.run(RAN, repository=str(repository), commit=case(first[:9]))
    assert (finished.commit, harness.log()) == (first, ran(first, "first"))


@pytest.mark.parametrize("name", ["0123456", "{commit}aaaa", "{tree}", "{tag}", "a" * 64])
async def test_commits_that_are_not_in_the_repository_fail_the_job(
    harness: AgentHarness, repository: Path, name: str
) -> None:
    git(repository, "tag", "--annotate", "v1", "-m", "one")
    git(repository, "update-ref", f"refs/tags/{'a' * 64}", "HEAD")
    asked = name.format(
        commit=git(repository, "rev-parse", "HEAD"),
        tree=git(repository, "rev-parse", "HEAD^{tree}"),
        tag=git(repository, "rev-parse", "v1"),
    )
    finished = await harness.run("true", repository=str(repository), commit=asked)
    said = f"git found no commit {asked} in the repository, or more than one"
    assert (finished.result, finished.reason) == (Result.FAILED, said)


@pytest.mark.parametrize("digits", [12, 40, 64])
async def test_a_repository_of_sha256_is_cloned(
    harness: AgentHarness, tmp_path: Path, digits: int
) -> None:
    folder = tmp_path / "sha256"
    folder.mkdir()
    try:
        git(folder, "init", "--object-format=sha256")
    except subprocess.CalledProcessError:
        pytest.skip("this git has no SHA-256")
    first = commit(folder, "first")
    finished = await harness.run(RAN, repository=str(folder), commit=first[:digits])
    assert (finished.commit, harness.log()) == (first, ran(first, "first"))


async def test_a_job_may_have_its_own_path(harness: AgentHarness, repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    path = {"PATH": "/nowhere", "BASH_ENV": "/nowhere/either"}
    await harness.run(
        "echo $BOXSCHED_COMMIT", repository=str(repository), environment=path, commit=first[:8]
    )
    assert harness.log().decode().endswith(f"{first}\n")
