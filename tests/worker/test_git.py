"""The repository is cloned as part of the job; names from outside are never options or commands."""

import asyncio
import base64
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from boxsched.model import Kind
from boxsched.states import Result
from tests.worker.harness import AgentHarness, alive, assigned, eventually, pid_in

SHOW = "git log -1 --format=%s; cat file"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


def commit(folder: Path, text: str) -> str:
    (folder / "file").write_text(f"{text}\n")
    git(folder, "add", "file")
    git(folder, "commit", "-m", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    commit(folder, "first")
    git(folder, "tag", "v1")
    commit(folder, "second")
    git(folder, "checkout", "-b", "feature/x")
    commit(folder, "third")
    git(folder, "checkout", "main")
    return folder


async def test_a_branch_is_cloned(harness: AgentHarness, repository: Path) -> None:
    finished = await harness.run(SHOW, repository=str(repository), branch="feature/x")
    assert finished.result is Result.PASSED
    assert harness.log() == b"third\nthird\n"


async def test_a_tag_is_cloned(harness: AgentHarness, repository: Path) -> None:
    git(repository, "branch", "v1")  # a branch of the same name is something else
    await harness.run(SHOW, repository=str(repository), branch=None, tag="v1")
    assert harness.log() == b"first\nfirst\n"


@pytest.mark.parametrize("digits", [40, 10])
async def test_a_commit_is_cloned(harness: AgentHarness, repository: Path, digits: int) -> None:
    first = git(repository, "rev-parse", "v1")
    await harness.run(SHOW, repository=f"file://{repository}", commit=first[:digits])
    assert harness.log() == b"first\nfirst\n"


async def test_a_commit_that_no_branch_holds_is_cloned(
    harness: AgentHarness, repository: Path
) -> None:
    git(repository, "checkout", "--detach")
    proposed = commit(repository, "proposed")
    git(repository, "update-ref", "refs/pull/1/head", proposed)
    git(repository, "checkout", "main")
    await harness.run(SHOW, repository=str(repository), branch="pull-request-1", commit=proposed)
    assert harness.log() == b"proposed\nproposed\n"


async def test_without_branch_tag_or_commit_the_default_branch_is_cloned(
    harness: AgentHarness, repository: Path
) -> None:
    await harness.run(SHOW, repository=str(repository), branch=None, server="production")
    assert harness.log() == b"second\nsecond\n"


async def test_a_failing_clone_fails_the_job_with_a_reason(
    harness: AgentHarness, tmp_path: Path
) -> None:
    finished = await harness.run("echo unreached", repository=str(tmp_path / "nothing"))
    assert (finished.result, finished.exit_status) == (Result.FAILED, None)
    assert finished.reason == "git clone failed with exit status 128"
    assert b"nothing" in harness.log()
    assert b"unreached" not in harness.log()


@pytest.mark.parametrize(
    "branch",
    ["--upload-pack=touch HIT;", "$(touch HIT)", "`touch HIT`", "-c", "a b", "x\ny", "..", ""],
)
async def test_hostile_branch_names_run_nothing(
    harness: AgentHarness, repository: Path, branch: str, tmp_path: Path
) -> None:
    hit = tmp_path / "hit"
    branch = branch.replace("HIT", str(hit))
    finished = await harness.run("echo unreached", repository=str(repository), branch=branch)
    assert finished.result is Result.FAILED
    assert finished.reason is not None
    assert finished.reason.startswith("git ")
    assert not hit.exists()
    assert b"unreached" not in harness.log()


async def test_a_branch_whose_name_looks_like_an_option_or_a_command_is_only_a_name(
    harness: AgentHarness, repository: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("$(touch${IFS}HIT)", "--no-checkout", "-q"), start=1):
        git(repository, "update-ref", f"refs/heads/{name}", "refs/heads/feature/x")
        desired = [assigned(number, SHOW, repository=str(repository), branch=name)]
        await harness.agent.reconcile(desired)
        assert (await harness.end(number)).result is Result.PASSED
        assert harness.log(number).endswith(b"third\nthird\n")


@pytest.mark.parametrize(
    "url", ["ext::sh -c 'touch HIT'", "--upload-pack=touch HIT", "http://127.0.0.1:9/x", "fd::17"]
)
async def test_hostile_repository_urls_run_nothing(
    harness: AgentHarness, url: str, tmp_path: Path
) -> None:
    hit = tmp_path / "hit"
    finished = await harness.run("true", repository=url.replace("HIT", str(hit)))
    assert finished.result is Result.FAILED
    assert not hit.exists()


@pytest.mark.parametrize("name", ["--help", "HEAD", "abcdef", "main"])
async def test_a_commit_is_only_a_hash(harness: AgentHarness, repository: Path, name: str) -> None:
    finished = await harness.run("true", repository=str(repository), commit=name)
    assert (finished.result, finished.reason) == (
        Result.FAILED,
        "its commit is not a commit hash",
    )


async def test_the_clone_counts_toward_the_time_limit(
    harness: AgentHarness, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 1000\n")
    slow.chmod(0o755)
    finished = await harness.run(
        "true",
        repository="ssh://host/repository",
        environment={"GIT_SSH_COMMAND": str(slow)},
        timeout_seconds=0.5,
    )
    assert (finished.result, finished.reason) == (Result.FAILED, "time limit of 0.5 s")


async def test_the_branch_of_a_deploy_is_cloned(harness: AgentHarness, repository: Path) -> None:
    deploy = {"kind": Kind.DEPLOY, "server": "production", "branch": "feature/x"}
    await harness.run(SHOW, repository=str(repository), **deploy)
    assert harness.log() == b"third\nthird\n"


@pytest.mark.parametrize("what", [{"branch": "feature/x"}, {"branch": None, "tag": "v1"}])
async def test_the_commit_that_ran_is_reported(
    harness: AgentHarness, repository: Path, what: dict[str, str | None]
) -> None:
    # The branch moves on while the job runs, and the job itself changes what is checked out.
    script = "git checkout --quiet --detach origin/main; rm -f ../commit; echo f00 > ../commit"
    finished = await harness.run(script, repository=str(repository), **what)
    assert finished.commit == git(repository, "rev-parse", what.get("tag") or "feature/x")
    assert harness.log() == b""


async def test_without_a_commit_none_is_reported(harness: AgentHarness, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init")
    finished = await harness.run("true", repository=str(empty), branch=None)
    assert (finished.result, finished.commit) == (Result.PASSED, None)


async def test_an_invalid_commit_is_not_passed_on(harness: AgentHarness, tmp_path: Path) -> None:
    """While no agent runs, a job may still write any end that it likes."""
    forged = '["passed",0,null,false,null,1.0,2.0,"$(id)"]'
    gate, supervisor = tmp_path / "gate", tmp_path / "supervisor"
    wait = f"echo $PPID > {supervisor}; echo ready; until [ -e {gate} ]; do sleep 0.02; done"
    await harness.agent.reconcile(
        [assigned(1, wait, f"echo '{forged}' > ../../result; kill -KILL $PPID; sleep 60")]
    )
    await harness.said(1, b"ready")
    await harness.agent.close()
    gate.touch()
    await eventually(lambda: not alive(pid_in(supervisor)))
    harness.agent = harness._agent()
    await harness.agent.start()
    finished = await harness.end(1)
    assert (finished.result, finished.commit) == (Result.PASSED, None)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    pem = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", pem, "-out", f"{pem}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{pem}.crt", pem)
    return tls


async def test_a_credential_helper_is_asked_for_a_repository_over_https(
    harness: AgentHarness, tmp_path: Path, tls: ssl.SSLContext
) -> None:
    """As docs/private-repositories.md says: named for a job, or for the whole machine."""
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.extend(line for line in head.splitlines() if line.startswith("Authorization: "))
        writer.write(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    (tmp_path / "credentials").touch(0o600)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        place = f"localhost:{server.sockets[0].getsockname()[1]}"
        (tmp_path / "credentials").write_text(f"https://builder:s3cret@{place}\n")
        finished = await harness.run(
            "true",
            repository=f"https://{place}/web.git",
            environment={
                "GIT_SSL_NO_VERIFY": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "credential.helper",
                "GIT_CONFIG_VALUE_0": f"store --file={tmp_path / 'credentials'}",
            },
        )
    assert finished.result is Result.FAILED  # the server accepts none
    credential = base64.b64encode(b"builder:s3cret").decode()
    assert asked == [f"Authorization: Basic {credential}"]


@pytest.mark.parametrize(
    "name", ["No space left on device", "\nfatal: write error: No space left on device\n"]
)
async def test_no_name_in_a_repository_can_say_that_the_worker_is_out_of_order(
    harness: AgentHarness, repository: Path, name: str
) -> None:
    """git quotes the names of files. A worker out of order gets no more jobs, and its job goes to
    the next one: one commit would stop all workers.
    """
    content = git(repository, "hash-object", "-w", "file")
    git(repository, "update-index", "--add", "--cacheinfo", f"100644,{content},{name}{'x' * 256}")
    git(repository, "commit", "-m", "hostile")
    finished = await harness.run("true", repository=str(repository), branch="main")
    assert name.strip() in harness.log().decode()
    assert (finished.result, finished.not_begun) == (Result.FAILED, False)
    assert harness.agent.problem is None
