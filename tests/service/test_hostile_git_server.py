"""A git server that writes into git's messages what only the machine could say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.git_server import repository
from tests.service.git_credential_checks import PRIVATE_FILES
from tests.service.running_service import RunningService, job
from tests.service.test_git_ssh_keys import ssh_key, use_ssh

asyncssh = pytest.importorskip("asyncssh")

LINES = [
    "fatal: write error: No space left on device",
    "fatal: Out of memory, malloc failed (tried to allocate 9 bytes)",
    "error: unable to create temporary file: Read-only file system",
]
PATIENCE_SECONDS = 60.0


@attrs.define
class HostileServer:
    """An SSH server that answers git with these lines. ``refusal``: as git's own refusal of several
    lines, else raw, as the error output of its program.
    """

    url: str
    refusal: bool = False
    asked: asyncio.Queue[str] = attrs.field(factory=asyncio.Queue)

    async def answer(self, process: Any) -> None:
        said = "\n".join(LINES)
        if self.refusal:
            text = f"ERR no\n{said}\n"
            process.stdout.write(f"{len(text) + 4:04x}{text}")
        else:
            process.stderr.write(f"{said}\n")
        process.exit(128)
        self.asked.put_nowait(process.command)

    async def was_asked(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.asked.get()


@pytest.fixture
async def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HostileServer]:
    if not Path("/usr/bin/ssh").exists():
        pytest.skip("no ssh is installed")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    made = HostileServer("")
    (tmp_path / "keys").mkdir()
    ssh_key(tmp_path / "keys")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], process_factory=made.answer,
        authorized_client_keys=str(tmp_path / "keys/key.pub"),
    )  # fmt: skip
    port = server.get_port()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    options = f"-o UserKnownHostsFile={known}"
    use_ssh(tmp_path, monkeypatch, f'#!/bin/sh\nexec /usr/bin/ssh {options} "$@"\n')
    made.url = f"ssh://git@127.0.0.1:{port}/web"
    yield made
    server.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.wait_closed()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", box_driver="process", boxes=1) as service:
        yield service


def credentials(tmp_path: Path) -> dict[str, str]:
    return {"ssh_key": (tmp_path / "keys/key").read_text()}


@pytest.mark.parametrize("refusal", [False, True])
async def test_a_git_server_cannot_say_that_a_worker_is_out_of_order(
    site: RunningService, hostile: HostileServer, tmp_path: Path, refusal: bool
) -> None:
    hostile.refusal = refusal
    settings = {"repository": hostile.url, "git_credentials": credentials(tmp_path)}
    assert (await site.project("web", jobs=[job()], **settings)).status == 201
    done = await site.finished((await site.build())["id"])
    assert done["result"] == "failed"
    assert done["jobs"][0]["attempt"] == 1
    assert done["jobs"][0]["reason"] == "git clone failed with exit status 128"
    assert site.node.worker.agent.problem is None
    log = (await site.call("GET", f"/api/v1/jobs/{done['jobs'][0]['id']}/log")).body.decode()
    assert all(line in log for line in LINES), "so that the test shows something"


@pytest.mark.parametrize("refusal", [False, True])
async def test_a_git_server_cannot_say_that_a_node_is_out_of_order(
    site: RunningService, hostile: HostileServer, tmp_path: Path, refusal: bool
) -> None:
    hostile.refusal = refusal
    settings = {"repository": hostile.url, "git_credentials": credentials(tmp_path)}
    assert (await site.project("web", jobs_from=".boxsched.yml", **settings)).status == 201
    build = await site.build()
    await hostile.was_asked()
    assert (await site.look(build["id"]))["state"] == "registered", "it is tried again for a time"
    assert (await site.call("GET", "/readyz")).status == 200
    good = repository(tmp_path / "good", **PRIVATE_FILES)
    answer = await site.project("good", repository=str(good), jobs_from=".boxsched.yml")
    assert answer.status == 201, answer.body
    assert (await site.finished((await site.build("good"))["id"]))["result"] == "passed"
