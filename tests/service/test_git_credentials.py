"""Credentials for git: git can use them, and they appear nowhere else."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.model import Kind
from boxsched.worker.remote.discovery import SystemNames
from tests.contract.store_data import build, spec
from tests.git_server import GitServer, certificate, git, repository
from tests.service.git_credential_checks import (
    FORMS,
    PRIVATE_FILES,
    TOKEN,
    ended,
    files_with,
    log_of,
    processes_with,
    project,
)
from tests.service.running_service import API, RunningService, job
from tests.worker.nodes_and_workers import TaskWorker


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def server(
    tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GitServer]:
    """It has a repository ``web`` and accepts the token with any user name."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(identity))
    repository(tmp_path / "served" / "web", **PRIVATE_FILES)
    async with GitServer.open(
        tmp_path / "served", identity, lambda user, password: password == TOKEN
    ) as opened:
        yield opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", box_driver="process", boxes=2) as service:
        yield service


# --- A token ----------------------------------------------------------------------------------


async def test_the_jobs_file_is_read_and_the_repository_cloned(
    site: RunningService, server: GitServer
) -> None:
    await project(site, f"{server.url}/web")
    done, log = await ended(site)
    assert (done["result"], log) == ("passed", "private code\n"), done
    assert done["commit"] == git(server.folder / "web", "rev-parse", "HEAD")
    assert {pair for pair in server.authorizations if pair} == {f"x-access-token:{TOKEN}"}


@pytest.mark.parametrize("clone", [{"depth": 1}, {"submodules": True}])
async def test_every_kind_of_clone_works(
    site: RunningService, server: GitServer, clone: dict[str, object]
) -> None:
    await project(site, f"{server.url}/web", clone=clone)
    done, log = await ended(site, commit=git(server.folder / "web", "rev-parse", "HEAD"))
    assert (done["result"], log) == ("passed", "private code\n"), done


async def test_the_user_name_of_the_url_is_used(site: RunningService, server: GitServer) -> None:
    await project(site, f"https://ada@localhost:{server.port}/web")
    done, log = await ended(site)
    assert (done["result"], log) == ("passed", "private code\n"), done
    assert f"ada:{TOKEN}" in server.authorizations
    assert f"x-access-token:{TOKEN}" not in server.authorizations


async def test_without_credentials_the_reason_says_that_a_password_is_required(
    site: RunningService, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.automation.plans.LAST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("boxsched.automation.plans.FIRST_PAUSE_SECONDS", 0.01)
    await project(site, f"{server.url}/web", git_credentials=None)
    done, _ = await ended(site)
    assert done["result"] == "failed"
    assert "fatal: could not read Username" in done["reason"]
    await project(site, f"{server.url}/web", git_credentials={"https_token": "another"})
    done, _ = await ended(site)
    assert "Authentication failed" in done["reason"]
    assert "another" not in done["reason"]


async def test_the_token_appears_in_no_form_anywhere_else(
    site: RunningService, server: GitServer, tmp_path: Path
) -> None:
    """Checked while git runs for the planner, while it runs for the job, and after the job."""
    found: dict[str, object] = {}

    def look(when: str) -> None:
        found[f"programs {when}"] = processes_with(FORMS)
        found[f"files {when}"] = [path.name for path in files_with(tmp_path, FORMS)]

    commands = [
        "env",
        "cat .git/config",
        "git remote -v",
        "cat /proc/self/environ",
        "ls /proc/self/fd",
    ]
    text = f"jobs: [{{name: show, commands: {commands}, show_commands: false}}]\n"
    (server.folder / "web" / ".boxsched.yml").write_text(text.replace("'", '"'))
    git(server.folder / "web", "commit", "--quiet", "-a", "-m", "second")
    await project(site, f"{server.url}/web")
    await site.call("PUT", f"{API}/pauses/until-looked", {"note": "first the planner"})
    server.gate.clear()
    made = await site.build()
    await asyncio.wait_for(server.reached.wait(), 20)
    await asyncio.to_thread(look, "of the planner")
    server.gate.set()
    await site.until(made["id"], boxes=1)
    server.gate.clear()
    server.reached.clear()
    await site.call("DELETE", f"{API}/pauses/until-looked")
    await asyncio.wait_for(server.reached.wait(), 20)
    await asyncio.to_thread(look, "of the job")
    server.gate.set()
    done, log = await log_of(site, await site.finished(made["id"]))
    assert done["result"] == "passed", log
    assert f"{server.url}/web" in log
    assert "***" not in log
    await asyncio.to_thread(look, "after it")
    assert not any(found.values()), found
    for path in ("/activity", f"/workloads/{made['id']}", "/projects/web", "/workers", "/boxes"):
        assert b"canary" not in (await site.call("GET", API + path)).body
    events = await site.node.store.events_after(1, 0, 0, 1_000)
    assert events and not any(b"canary" in event.data for event in events)


async def test_nothing_is_left_of_the_token_when_all_processes_are_killed(
    site: RunningService, server: GitServer, tmp_path: Path
) -> None:
    """Supervisor and git are killed while git waits for the repository."""
    await project(site, f"{server.url}/web")
    server.gate.clear()
    made = await site.build(jobs=[job()])
    await asyncio.wait_for(server.reached.wait(), 20)
    assert await asyncio.to_thread(lambda: list(files_with(tmp_path, FORMS))) == []
    os.kill(supervisor_below(tmp_path), signal.SIGKILL)
    done = await site.finished(made["id"])
    assert done["result"] == "failed"
    assert processes_with([f"{tmp_path}/data/worker/w1-1-1/".encode()]) == []
    assert await asyncio.to_thread(lambda: list(files_with(tmp_path, FORMS))) == []


def supervisor_below(folder: Path) -> int:
    """Return the process that supervises a job in this folder, from its spawner's arguments."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "comm").read_text().startswith("job ") and str(folder).encode() in (
                path / "cmdline"
            ).read_bytes():
                return int(path.name)
    raise AssertionError("no supervisor")


async def test_a_job_cannot_make_git_show_the_token(
    site: RunningService, server: GitServer, tmp_path: Path
) -> None:
    """git with credentials ignores the environment that a job sets."""
    hit = tmp_path / "hit"
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat /proc/self/fd/* >> {hit}; env >> {hit}\n")
    tool.chmod(0o755)
    hostile = {
        "GIT_TRACE_CURL": "1", "GIT_CURL_VERBOSE": "1", "GIT_TRACE_REDACT": "0",
        "GIT_TRACE": str(hit), "GIT_EXEC_PATH": str(tmp_path), "PATH": str(tmp_path),
        "GIT_ASKPASS": str(tool), "GIT_PROXY_COMMAND": str(tool), "GIT_TEMPLATE_DIR": str(tmp_path),
        "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "GIT_SSL_NO_VERIFY": "1",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": f"!{tool}", "LD_PRELOAD": str(tool),
    }  # fmt: skip
    (tmp_path / ".gitconfig").write_text(f"[credential]\nhelper = !{tool}\n")
    jobs = [{**job("show", "/bin/cat which"), "environment": hostile, "show_commands": False}]
    await project(site, f"{server.url}/web", jobs=jobs)
    done, log = await ended(site)
    assert done["result"] == "passed", log
    assert log.endswith("private code\n")
    assert not hit.exists()


async def test_a_redirect_does_not_send_the_token_to_another_host(
    site: RunningService, server: GitServer, identity: Path, tmp_path: Path
) -> None:
    async with GitServer.open(tmp_path / "served", identity, lambda *_: True) as other:
        server.moved["/old"] = f"{server.url}/web"
        server.moved["/away"] = f"{other.url}/web"
        jobs = [job("show", "cat which", show_commands=False)]
        await project(site, f"{server.url}/old", jobs=jobs)
        done, log = await ended(site)
        assert done["result"] == "passed", log
        await project(site, f"{server.url}/away", jobs=jobs)
        done, log = await ended(site)
        assert (done["result"], done["jobs"][0]["reason"]) == (
            "failed",
            "git clone failed with exit status 128",
        )
        assert "could not read Username" in log
        assert set(other.authorizations) == {None}


async def test_for_another_host_the_credentials_must_be_set_again(
    site: RunningService, server: GitServer, identity: Path, tmp_path: Path
) -> None:
    async with GitServer.open(tmp_path / "served", identity, lambda *_: True) as other:
        await project(site, f"{other.url}/web", git_credentials={"https_token": "another"})
        await site.call("PUT", f"{API}/pauses/changing", {"note": "the project changes"})
        made = await site.build(jobs=[job()])
        answer = await site.project(
            repository=f"{server.url}/web", jobs=[], jobs_from=".boxsched.yml"
        )
        assert (answer.status, answer.error["field"]) == (422, "git_credentials")
        await project(site, f"{server.url}/web")
        await site.call("DELETE", f"{API}/pauses/changing")
        done = await site.finished(made["id"])
        assert done["jobs"][0]["reason"] == (
            f"the git credentials cannot be used: git_credentials are for {server.url}, but the "
            f"repository is at {other.url}: set them again"
        )
        assert other.authorizations == []


async def test_an_external_worker_gets_the_credentials_too(
    tmp_path: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await project(service, f"{server.url}/web")
        made = await service.call("POST", f"{API}/tokens", {"role": "worker"})
        data, token = tmp_path / "builder", made.json["token"]
        worker = TaskWorker(data, [service.url], SystemNames(), token=lambda: token, stop_grace=1.0)
        try:
            done, log = await ended(service)
            assert (done["result"], log) == ("passed", "private code\n"), done
        finally:
            await worker.end()
        assert list(files_with(tmp_path, FORMS)) == []


# --- Submodules -------------------------------------------------------------------------------


def add_submodule(server: GitServer, url: str) -> None:
    web = server.folder / "web"
    head = git(server.folder / "library", "rev-parse", "HEAD")
    (web / ".gitmodules").write_text(f'[submodule "lib"]\npath = lib\nurl = {url}\n')
    git(web, "add", ".gitmodules")
    git(web, "update-index", "--add", "--cacheinfo", f"160000,{head},lib")
    git(web, "commit", "--quiet", "-m", "a submodule")


WITH_SUBMODULE = {
    "jobs": [job("show", "cat which lib/which", show_commands=False)],
    "clone": {"submodules": True},
}


@pytest.mark.parametrize("url", ["URL/library", "../library"])
async def test_submodules_on_the_same_host_get_the_credentials(
    site: RunningService, server: GitServer, url: str
) -> None:
    repository(server.folder / "library", which="library\n")
    add_submodule(server, url.replace("URL", server.url))
    await project(site, f"{server.url}/web", **WITH_SUBMODULE)
    done, log = await ended(site)
    assert (done["result"], log) == ("passed", "private code\nlibrary\n"), done


async def test_submodules_on_another_host_do_not_get_the_credentials(
    site: RunningService, server: GitServer, identity: Path, tmp_path: Path
) -> None:
    repository(server.folder / "library", which="library\n")
    async with GitServer.open(tmp_path / "served", identity, lambda *_: True) as other:
        add_submodule(server, f"{other.url}/library")
        await project(site, f"{server.url}/web", **WITH_SUBMODULE)
        done, log = await ended(site)
        reason = "git cannot get the repository's submodules"
        assert (done["result"], done["jobs"][0]["reason"]) == ("failed", reason), log
        assert set(other.authorizations) == {None}


async def test_submodules_of_a_fork_do_not_get_the_credentials(
    site: RunningService, server: GitServer
) -> None:
    """The author of a fork may name any other private repository of the host."""
    repository(server.folder / "library", which="library\n")
    add_submodule(server, f"{server.url}/library")
    await project(site, f"{server.url}/web", **WITH_SUBMODULE)
    stored = await site.node.store.project("web")
    assert stored is not None
    new = build(stored, jobs=(spec(),), commit=None, message=None, from_fork=True, kind=Kind.BUILD)
    submitted = await site.node.submit(new)
    # type: ignore[union-attr]
    done, log = await log_of(site, await site.finished(f"w{submitted.id}"))
    reason = "git cannot get the repository's submodules"
    assert done["jobs"][0]["reason"] == reason, log
    await project(site, f"{server.url}/web", jobs=WITH_SUBMODULE["jobs"])
    say = attrs.evolve(new.jobs[0], commands=("cat which",), show_commands=False)
    submitted = await site.node.submit(attrs.evolve(new, jobs=(say,), project_version=2))
    # type: ignore[union-attr]
    done, log = await log_of(site, await site.finished(f"w{submitted.id}"))
    assert (done["result"], log) == ("passed", "private code\n"), done
