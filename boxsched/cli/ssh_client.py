"""Enter an SSH session: directly where its worker is reached, else through the service.

Only the host key that the service named is accepted.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator

import asyncssh
import attrs
import click

from boxsched import tunnelling
from boxsched.cli.failing import Failure
from boxsched.cli.piping import lost_text, read_input, write_output
from boxsched.cli.ssh_keys import Key
from boxsched.client import Client
from boxsched.client.records import SshEndpoint

USER = "box-once"  # the session ends when a command or shell of this user ends
DIRECT_SECONDS = 2.0  # to reach the worker
LOGIN_SECONDS = 20.0
LOST = 255  # as ssh
SIGNALLED = 128
KEEPALIVE_SECONDS, KEEPALIVES = 30.0, 4
CHUNK_BYTES = 64 << 10
ENCRYPTION = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"]

_SIGNALS = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGHUP: "HUP"}


async def enter(
    client: Client,
    workload: str,
    endpoint: SshEndpoint,
    key: Key,
    command: str | None,
    terminal: bool,
) -> int:
    """Run the command, or a shell, in the session; return its exit status."""
    async with contextlib.AsyncExitStack() as opened:
        try:
            way = None
            connection = await _direct(endpoint, key)
            if connection is None:
                way = await opened.enter_async_context(_through(client, workload))
                connection = await _logged_in(way.ours, endpoint, key)
        except (asyncssh.Error, OSError) as error:
            raise Failure(f"cannot enter the session {workload}: {error}") from None
        opened.callback(connection.abort)
        try:
            status = await _run(connection, command, terminal)
        except asyncssh.ConnectionLost as error:
            why = None if way is None else await way.why_lost()
            click.echo(f"boxsched: {lost_text(workload, why or str(error))}", err=True)
            status = LOST
        except (asyncssh.Error, OSError) as error:
            raise Failure(f"the session {workload} refuses it: {error}") from None
        connection.close()
        with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
            async with asyncio.timeout(1.0):
                await connection.wait_closed()
        return status


# --- Connections ----------------------------------------------------------------------------


async def _direct(endpoint: SshEndpoint, key: Key) -> asyncssh.SSHClientConnection | None:
    """Connect to the worker; None if it is not reached, or if something else answers there."""
    if endpoint.host is None or endpoint.port is None:
        return None
    try:
        async with asyncio.timeout(DIRECT_SECONDS):
            plain = await _connected(endpoint.host, endpoint.port)
            return await _logged_in(plain, endpoint, key)
    except (OSError, asyncssh.Error):
        return None


async def _connected(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    plain = socket.socket(family, kind, protocol)
    plain.setblocking(False)
    try:
        await loop.sock_connect(plain, address)
    except BaseException:
        plain.close()
        raise
    return plain


async def _logged_in(
    plain: socket.socket, endpoint: SshEndpoint, key: Key
) -> asyncssh.SSHClientConnection:
    """Log in over the socket. Raises asyncssh.Error, OSError."""
    host_key = asyncssh.import_public_key(endpoint.host_key)
    return await asyncssh.connect(
        "session",
        sock=plain,
        config=None,
        username=USER,
        client_keys=[key.private],
        known_hosts=([host_key], [], []),
        agent_path=None,
        gss_host=None,
        password_auth=False,
        kbdint_auth=False,
        encryption_algs=ENCRYPTION,
        compression_algs=["none"],
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=KEEPALIVES,
    )


@attrs.frozen
class _Way:
    """A way through the service. ``ours``: our end of it."""

    ours: socket.socket
    carrying: "asyncio.Task[str | None]"

    async def why_lost(self) -> str | None:
        """Return why the way was lost; None if it was not, or if that is not known soon."""
        await asyncio.wait([self.carrying], timeout=tunnelling.CLOSE_SECONDS)
        return self.carrying.result() if self.carrying.done() else None


@contextlib.asynccontextmanager
async def _through(client: Client, workload: str) -> AsyncIterator[_Way]:
    async with client.ssh_tunnel(workload) as tunnel:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        carrying = asyncio.create_task(tunnelling.join_socket(tunnel, theirs))
        try:
            yield _Way(ours, carrying)
        finally:
            # what was sent last is still on its way
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tunnelling.CLOSE_SECONDS):
                    await asyncio.shield(carrying)
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)


# --- The program ----------------------------------------------------------------------------


async def _run(
    connection: asyncssh.SSHClientConnection, command: str | None, terminal: bool
) -> int:
    size = _size() if terminal else None
    process = await connection.create_process(
        command,
        term_type=os.environ.get("TERM", "xterm") if terminal else None,
        term_size=size or (),
        encoding=None,
    )
    with _raw_terminal() if terminal else contextlib.nullcontext(), _signals(process, terminal):
        feeding = asyncio.create_task(_feed(process))
        try:
            await asyncio.gather(_drain(process.stdout, 1), _drain(process.stderr, 2))
            await process.wait_closed()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
    if process.exit_signal is not None:
        number = getattr(signal, f"SIG{process.exit_signal[0]}", 0)
        return SIGNALLED + int(number)
    if process.exit_status is None:
        raise asyncssh.ConnectionLost("it ended before its command did")
    return process.exit_status


async def _feed(process: "asyncssh.SSHClientProcess[bytes]") -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        async for data in read_input():
            process.stdin.write(data)
            await process.stdin.drain()
        process.stdin.write_eof()


async def _drain(reader: "asyncssh.SSHReader[bytes]", descriptor: int) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await write_output(descriptor, data)


@contextlib.contextmanager
def _signals(process: "asyncssh.SSHClientProcess[bytes]", terminal: bool) -> Iterator[None]:
    """Pass signals on, and changes of the terminal's size."""
    loop = asyncio.get_running_loop()

    def pass_on(name: str) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            process.send_signal(name)

    def resize() -> None:
        if (size := _size()) is not None:
            with contextlib.suppress(OSError, asyncssh.Error):
                process.change_terminal_size(*size)

    for number, name in _SIGNALS.items():
        loop.add_signal_handler(number, pass_on, name)
    if terminal:
        loop.add_signal_handler(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        for each in (*_SIGNALS, signal.SIGWINCH):
            loop.remove_signal_handler(each)


def _size() -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = os.get_terminal_size(0)
        return found.columns, found.lines
    return None


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass all keys on, also ^C; restore the terminal at the end."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
