"""SSH keys for git, and how credentials are stored."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.git_server import GitServer, certificate, repository
from tests.service.git_credential_checks import (
    PRIVATE_FILES,
    TOKEN,
    ended,
    files_with,
    processes_with,
    project,
)
from tests.service.running_service import RunningService, job


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
