"""Ways into SSH sessions whose other side vanishes without a word."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from boxsched import tunnelling
from tests.faults.proxy import BOTH, DOWN, UP, Direction, proxied
from tests.openssh import OpenSsh, needs_openssh
from tests.service.running_service import PATIENCE_SECONDS, RunningService
from tests.service.test_long_polling import worker_token
from tests.service.test_ssh import boxless, opened, user, working  # noqa: F401 (fixtures)

HEARTBEAT = 0.4
# A user's program with this heartbeat.
PROGRAM = f"""
from boxsched import tunnelling
from boxsched.cli import main
tunnelling.HEARTBEAT_SECONDS = {HEARTBEAT}
main()
"""


def command(service: RunningService, port: int, session: str) -> list[str]:
    given = ("--url", f"http://127.0.0.1:{port}", "--token", service.token)
    return [sys.executable, "-c", PROGRAM, "ssh", *given, "--proxy", session]


@pytest.fixture(autouse=True)
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1.5 * tunnelling.HEARTBEAT_SECONDS == 45.0
    monkeypatch.setattr(tunnelling, "HEARTBEAT_SECONDS", HEARTBEAT)


@pytest.mark.parametrize("way", [BOTH, UP, DOWN])
async def test_both_sides_notice_that_the_other_one_is_gone(
    way: Direction,
    boxless: RunningService,  # noqa: F811
    tmp_path: Path,
    user: OpenSsh,  # noqa: F811
) -> None:
    port = int(boxless.url.rpartition(":")[2])
    async with (
        working(tmp_path / "w", boxless.url, await worker_token(boxless)),
        proxied(port) as proxy,
    ):
        id_ = await opened(boxless, user)
        process = await asyncio.create_subprocess_exec(
            *command(boxless, proxy.port, id_), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await process.stdout.readline()).startswith(b"SSH-2.0")
            await proxy.blackhole(way)
            _, said = await process.communicate()
            while boxless.node.entering.open:  # noqa: ASYNC110 (a number)
                await asyncio.sleep(0.01)
        assert process.returncode == 1
        lost = f"boxsched: lost the connection to the session {id_}: "
        assert said.decode().startswith(lost)
        if way is not UP:
            assert said.decode() == f"{lost}no answer for {1.5 * HEARTBEAT:g} s\n"


@needs_openssh
async def test_an_idle_session_is_not_silent(
    boxless: RunningService,  # noqa: F811
    tmp_path: Path,
    user: OpenSsh,  # noqa: F811
) -> None:
    async with working(tmp_path / "w", boxless.url, await worker_token(boxless)):
        id_ = await opened(boxless, user)
        port = int(boxless.url.rpartition(":")[2])
        host_key = (await boxless.get(f"/workloads/{id_}"))["ssh"]["host_key"]
        program = tmp_path / "boxsched"
        words = (f"'{word}'" for word in command(boxless, port, id_))
        program.write_text(f"#!/bin/sh\nexec {' '.join(words)}\n")
        program.chmod(0o755)
        session = user.through(str(program), host_key)
        done = await session.run(f"sleep {8 * HEARTBEAT}; echo done")
        assert (done.status, done.out) == (0, b"done\n"), done.errors
