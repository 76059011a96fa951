"""Credentials for git: git can use them, and they appear nowhere else."""

import asyncio
import base64
import contextlib
import os
import signal
import subprocess
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.model import Kind
from boxsched.worker.remote.discovery import SystemNames
from tests.contract.store_data import build, spec
from tests.git_server import GitServer, certificate, git, repository
from tests.service.running_service import API, RunningService, job
from tests.worker.nodes_and_workers import TaskWorker

TOKEN = "canary-51c0+token/7q"
FORMS = [
    TOKEN.encode(),
    urllib.parse.quote(TOKEN, safe="").encode(),
    *(base64.b64encode(b"x" * n + TOKEN.encode())[4:-4] for n in range(3)),
]
FILE = "jobs: [{name: show, commands: [cat which, git submodule status], show_commands: false}]\n"
PRIVATE_FILES = {"which": "private code\n", "__boxsched__yml": FILE}


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


async def project(service: RunningService, url: str, **settings: Any) -> None:
    settings = {"git_credentials": {"https_token": TOKEN}, "jobs": [], **settings}
    if not settings["jobs"]:
        settings.setdefault("jobs_from", ".boxsched.yml")
    answer = await service.project(repository=url, **settings)
    assert answer.status in (200, 201), answer.body
    assert b"canary" not in answer.body


async def ended(service: RunningService, **asked: Any) -> tuple[dict[str, Any], str]:
    """Return a finished build and the log of its first job."""
    return await log_of(service, await service.finished((await service.build(**asked))["id"]))


async def log_of(service: RunningService, done: dict[str, Any]) -> tuple[dict[str, Any], str]:
    if not done["jobs"]:
        return done, ""
    log = await service.call("GET", f"{API}/jobs/{done['jobs'][0]['id']}/log")
    return done, log.body.decode()


def files_with(folder: Path, words: list[bytes]) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with contextlib.suppress(OSError):
                if path.is_file() and any(word in path.read_bytes() for word in words):
                    yield path


def processes_with(words: list[bytes]) -> list[str]:
    """Return programs whose arguments or environment contain one of the words."""
    found = []
    for name in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            with contextlib.suppress(OSError):
                if any(word in path.read_bytes() for word in words):
                    found.append(str(path))
    return found


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


# --- An SSH key -------------------------------------------------------------------------------


def ssh_key(folder: Path, passphrase: str = "", *options: str) -> str:
    file = folder / "key"
    file.unlink(missing_ok=True)
    kind = options or ("-t", "ed25519")
    subprocess.run(
        ["ssh-keygen", "-q", "-N", passphrase, "-C", "canary", "-f", str(file), *kind], check=True
    )
    return file.read_text()


FAKE_SSH = """#!/bin/sh
# Says what it was asked and given, and serves the repository, as the host at the other end does.
key=
for argument; do
    [ "$before" = -i ] && key=$argument
    before=$argument
    printf '%s\\n' "$argument" >> SAID/arguments
done
stat -L -c %a "$key" > SAID/mode
cp "$key" SAID/key
env > SAID/environment
eval "exec $before"
"""


def use_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make both gits find this program under the name ``ssh``."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(text)
    (tools / "ssh").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr("boxsched.worker.agent.plan.JOB_PATH", path)


async def test_the_key_is_given_to_ssh_only(
    site: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ssh_key(tmp_path)
    body = key.splitlines()[2].encode()
    repository(tmp_path / "served" / "web", **PRIVATE_FILES)
    said = tmp_path / "said"
    said.mkdir()
    use_ssh(tmp_path, monkeypatch, FAKE_SSH.replace("SAID", str(said)))
    url = f"git@host.example:{tmp_path}/served/web"
    await project(site, url, git_credentials={"ssh_key": key.replace("\n", "\r\n").rstrip()})
    done, log = await ended(site)
    assert (done["result"], log) == ("passed", "private code\n"), done
    assert (said / "key").read_text() == key
    assert (said / "mode").read_text() == "600\n"
    arguments = (said / "arguments").read_text().split("\n")
    for option in ("IdentitiesOnly=yes", "BatchMode=yes", "IdentityAgent=none"):
        assert option in arguments
    assert arguments.count("git@host.example") == 2, "the planner's git, and the job's"
    (said / "key").unlink()
    (tmp_path / "key").unlink()
    assert list(files_with(tmp_path, [body])) == []
    assert processes_with([body]) == []


async def test_openssh_accepts_the_key(
    site: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncssh = pytest.importorskip("asyncssh")
    if not Path("/usr/bin/ssh").exists():
        pytest.skip("no ssh is installed")
    key = ssh_key(tmp_path)
    repository(tmp_path / "served" / "web", **PRIVATE_FILES)

    async def serve(process: Any) -> None:
        command, _, path = process.command.partition(" ")
        assert command == "git-upload-pack"
        pack = await asyncio.create_subprocess_exec(
            "git", "upload-pack", path.strip("'"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await process.redirect(stdin=pack.stdin, stdout=pack.stdout)
        process.exit(await pack.wait())
        await process.wait_closed()

    host_key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], process_factory=serve, encoding=None,
        authorized_client_keys=asyncssh.import_authorized_keys((tmp_path / "key.pub").read_text()),
    )  # fmt: skip
    port = server.get_port()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    use_ssh(
        tmp_path,
        monkeypatch,
        f'#!/bin/sh\nexec /usr/bin/ssh -o UserKnownHostsFile={known} "$@"\n',
    )
    url = f"ssh://git@127.0.0.1:{port}{tmp_path}/served/web"
    try:
        await project(site, url, git_credentials={"ssh_key": key})
        done, log = await ended(site)
        assert (done["result"], log) == ("passed", "private code\n"), done
        await project(site, url, git_credentials={"ssh_key": ssh_key(tmp_path)})
        done, log = await ended(site, jobs=[job()])
        assert "Permission denied (publickey)" in log
    finally:
        server.close()
        await server.wait_closed()


# --- What is stored ---------------------------------------------------------------------------

HTTPS, SSH = "https://git.example.org/web", "git@git.example.org:web"


@pytest.mark.parametrize(
    ("repository", "credentials", "field"),
    [
        (HTTPS, {}, "git_credentials"),
        (HTTPS, {"https_token": "a", "ssh_key": "b"}, "git_credentials"),
        (HTTPS, {"https_token": "a b"}, "git_credentials.https_token"),
        (HTTPS, {"https_token": "a\nusername=b"}, "git_credentials.https_token"),
        (HTTPS, {"https_token": ""}, "git_credentials.https_token"),
        (HTTPS, {"token": "a"}, "git_credentials.token"),
        (HTTPS, {"ssh_key": "a"}, "git_credentials.ssh_key"),
        (SSH, {"ssh_key": "a"}, "git_credentials.ssh_key"),
        (SSH, {"https_token": "a"}, "git_credentials.https_token"),
        ("/srv/web", {"https_token": "a"}, "git_credentials.https_token"),
        ("/srv/web", {"ssh_key": "a"}, "git_credentials.ssh_key"),
        (None, {"https_token": "a"}, "git_credentials"),
    ],
)
async def test_names_that_git_cannot_use_are_refused(
    boxless_service: RunningService, repository: str | None, credentials: object, field: str
) -> None:
    answer = await boxless_service.project(repository=repository, git_credentials=credentials)
    assert (answer.status, answer.error["field"]) == (422, field), answer.body


@pytest.mark.parametrize("options", [(), ("-t", "rsa", "-b", "2048", "-m", "PEM")])
async def test_a_key_with_a_passphrase_is_refused(
    boxless_service: RunningService, tmp_path: Path, options: tuple[str, ...]
) -> None:
    key = ssh_key(tmp_path, "a passphrase", *options)
    answer = await boxless_service.project(repository=SSH, git_credentials={"ssh_key": key})
    assert (answer.status, answer.error["field"]) == (422, "git_credentials.ssh_key")
    assert "has a passphrase" in answer.error["message"]
    key = ssh_key(tmp_path, "", *options)
    assert (
        await boxless_service.project(repository=SSH, git_credentials={"ssh_key": key})
    ).status == 201


async def stored(service: RunningService) -> str | None:
    project = await service.node.store.project("web")
    assert project is not None
    return (await service.node.store.sealed_git_credentials([project.id])).get(project.id)


async def test_credentials_are_kept_replaced_removed_and_never_returned(
    boxless_service: RunningService,
) -> None:
    await project(boxless_service, HTTPS)
    first = await stored(boxless_service)
    assert first is not None and "canary" not in first
    assert "git_credentials" not in await boxless_service.get("/projects/web")
    await boxless_service.project(repository=HTTPS)
    assert await stored(boxless_service) == first
    await boxless_service.project(repository=HTTPS, git_credentials={"https_token": "another"})
    assert await stored(boxless_service) not in (None, first)
    await boxless_service.project(repository=HTTPS, git_credentials=None)
    assert await stored(boxless_service) is None


async def test_without_a_vault_key_credentials_are_refused(boxless_service: RunningService) -> None:
    object.__setattr__(boxless_service.node.vault, "ring", None)
    answer = await boxless_service.project(repository=HTTPS, git_credentials={"https_token": TOKEN})
    assert (answer.status, answer.error["code"]) == (409, "secrets_unusable")
    assert "--secrets-key-file" in answer.error["message"]


async def test_a_job_does_not_run_without_its_credentials(
    site: RunningService, server: GitServer
) -> None:
    await project(site, f"{server.url}/web")
    object.__setattr__(site.node.vault, "ring", None)
    done, _ = await ended(site)
    assert done["reason"].startswith(".boxsched.yml: the git credentials cannot be used: ")
    done, log = await ended(site, jobs=[job("show", "echo it ran")])
    assert done["jobs"][0]["reason"].startswith("the git credentials cannot be used: ")
    assert "it ran" not in log
