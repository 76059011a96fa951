"""The server of a session by itself: when it ends, what it shows, and what strangers can do."""

import asyncio
import contextlib
import fcntl
import os
import pty
import socket
import struct
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import attrs
import pytest

from boxsched.worker.agent import session_program
from boxsched.worker.supervisor.session import Settings, write_settings
from tests.openssh import OpenSsh, needs_openssh

pytestmark = needs_openssh
LIMIT_SECONDS = 60.0


@attrs.frozen
class Server:
    process: asyncio.subprocess.Process
    port: int
    user: OpenSsh

    async def ended(self) -> bytes:
        """Wait for its end; return its log."""
        async with asyncio.timeout(LIMIT_SECONDS):
            said, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return said


@contextlib.asynccontextmanager
async def serving(user: OpenSsh, **other: Any) -> AsyncIterator[Server]:
    """Start a server as the supervisor does."""
    listener = socket.create_server(("127.0.0.1", 0))
    announced, announce = os.pipe()
    values: dict[str, Any] = {
        "keys": [user.public_key],
        "forwarding": False,
        "environment": {"PATH": os.defpath, "HOME": str(user.home)},
        "shell": "/bin/bash",
        "limit": 3_600.0,
        "seconds": 3_600.0,
        "listeners": [listener.fileno()],
        "announce": announce,
        "linger_seconds": 60.0,
    }
    settings = write_settings(Settings(**(values | other)))
    inherited = (settings, announce, listener.fileno())
    process = await asyncio.create_subprocess_exec(
        *session_program.arguments(),
        str(settings),
        pass_fds=inherited,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        cwd=user.home,
    )
    port = listener.getsockname()[1]
    for descriptor in (settings, announce):
        os.close(descriptor)
    listener.close()
    try:
        key = (await asyncio.to_thread(os.read, announced, 1_000)).decode().strip()
        yield Server(process, port, user.directly("127.0.0.1", port, key))
    finally:
        os.close(announced)
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def user(tmp_path: Path) -> OpenSsh:
    return OpenSsh.user(tmp_path / "user")


async def test_it_ends_when_nobody_ever_connects(user: OpenSsh) -> None:
    async with serving(user, wait_seconds=0.2) as server:
        assert b"nobody connected within 0.2 s" in await server.ended()


async def test_terminals_are_warned_before_the_time_limit(user: OpenSsh) -> None:
    async with serving(user, seconds=4.0, warn_seconds=(300.0, 3.0, 2.0)) as server:
        shell = await asyncio.create_subprocess_exec(
            *server.user.command("ssh", "-tt", server.user.target, "sleep 1000"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert shell.stdout is not None
        async with asyncio.timeout(LIMIT_SECONDS):
            said = await shell.stdout.readuntil(b"ends in 2 s")
        assert b"300" not in said and b"5 min" not in said
        server.process.terminate()
        assert b"this session ends: it is stopped" in await shell.stdout.read()
        await shell.wait()


async def test_a_terminal_has_the_clients_size_and_its_interrupts(user: OpenSsh) -> None:
    """The client runs in a terminal of its own, whose size changes."""
    async with serving(user) as server:
        ours, theirs = pty.openpty()
        _resize(theirs, 33, 101)
        script = (
            "trap 'stty size' WINCH; trap 'echo interrupted; exit 9' INT; "
            "tty; stty size; while :; do sleep 0.05; done"
        )
        process = await asyncio.create_subprocess_exec(
            *server.user.command("ssh", "-t", server.user.target, script),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        await _shows(ours, b"33 101")
        _resize(ours, 44, 90)
        await _shows(ours, b"44 90")
        os.write(ours, b"\x03")
        await _shows(ours, b"interrupted")
        assert await process.wait() == 9
        os.close(ours)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def _shows(terminal: int, text: bytes) -> None:
    seen = b""
    async with asyncio.timeout(LIMIT_SECONDS):
        while text not in seen:
            seen += await asyncio.to_thread(os.read, terminal, 65_536)


async def test_strangers_are_bounded_and_harmless(user: OpenSsh) -> None:
    """Garbage, silence and floods; the rightful user enters when a place is free."""
    async with serving(user) as server:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(100_000), b"SSH-2.0-x\r\n" * 9):
            with contextlib.suppress(ConnectionError), _connected(server) as stranger:
                stranger.sendall(garbage)
        silent = [_connected(server) for _ in range(30)]
        reading = [asyncio.create_task(asyncio.to_thread(_closed, one)) for one in silent]
        async with asyncio.timeout(LIMIT_SECONDS):
            while sum(one.done() for one in reading) < 15:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for one in silent:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*reading)
        for one in silent:
            one.close()
        async with asyncio.timeout(LIMIT_SECONDS):
            while (await server.user.run("true")).status != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        server.process.terminate()
        said = await server.ended()
        assert said.count(b" connected") == 1 and len(said) < 1_000


def _connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_SECONDS)


def _closed(stranger: socket.socket) -> None:
    """Read to the end."""
    with contextlib.suppress(OSError):
        while stranger.recv(4_096):
            pass


async def test_a_connection_has_a_limit_of_channels(user: OpenSsh, tmp_path: Path) -> None:
    async with serving(user) as server:
        control = f"ControlPath={tmp_path}/control"
        shared = ("-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", control)
        assert (await server.user.run("true", *shared)).status == 0
        many = [asyncio.create_task(server.user.run("sleep 1", *shared)) for _ in range(12)]
        statuses = sorted([one.status for one in await asyncio.gather(*many)])
        # Beyond the limit OpenSSH makes a connection of its own.
        assert statuses == [0] * 12
        await server.user.run("true", *shared, "-O", "exit")
        server.process.terminate()
        assert (await server.ended()).count(b" connected") == 3


async def test_only_one_key_enters_and_its_memory_cannot_be_read(user: OpenSsh) -> None:
    async with serving(user) as server:
        pid = server.process.pid
        ran = await server.user.run(f"stat -c %U /proc/{pid}/environ; cat /proc/self/environ")
        assert ran.status == 0 and b"SETTINGS" not in ran.out
        status = Path(f"/proc/{pid}/environ").stat()
        assert status.st_uid == 0  # not dumpable: its files in /proc belong to root


def _library(server: Server) -> Any:
    """Connect with the library, which sends what OpenSSH's programs would not."""
    user = server.user.home
    return asyncssh.connect(
        "127.0.0.1",
        server.port,
        username="box",
        client_keys=[str(user / "key")],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


async def test_a_named_pipe_does_not_stop_the_server(user: OpenSsh) -> None:
    os.mkfifo(user.home / "pipe")
    (user.home / "file").write_text("kept")
    async with serving(user) as server, asyncio.timeout(LIMIT_SECONDS):
        async with _library(server) as connection, connection.start_sftp_client() as sftp:
            for mode in ("rb", "wb"):
                with pytest.raises(asyncssh.SFTPFailure, match="not a regular file"):
                    await sftp.open("pipe", mode)
            async with sftp.open("file", "r") as file:
                assert await file.read() == "kept"
        assert (await server.user.run("echo well")).out == b"well\n"


async def test_of_the_subsystems_there_is_only_sftp(user: OpenSsh) -> None:
    async with serving(user) as server:
        ran = await server.user.run("netconf", "-s", given=b"echo a shell\n")
        assert (ran.status != 0, ran.out) == (True, b""), "the library opens a shell"


async def test_words_that_no_program_can_have_end_no_connection(user: OpenSsh) -> None:
    async with (
        serving(user) as server,
        asyncio.timeout(LIMIT_SECONDS),
        _library(server) as connection,
    ):
        refused = await connection.run("echo a\0b")
        assert refused.exit_status == 255 and "null byte" in refused.stderr
        refused = await connection.run("true", term_type="x\0y")
        assert refused.exit_status == 255
        given = {"LC_A\0": "x", "LC_B=C": "x", "LC_OK": "x", "LD_PRELOAD": "/no", "LC_": "y"}
        seen = await connection.run("env", env=given)
        assert "LC_OK=x" in seen.stdout.splitlines()
        assert "LC_B" not in seen.stdout and "LD_PRELOAD" not in seen.stdout
