"""The connections of a session: who may enter, and what they may do."""

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Callable
from typing import cast

import asyncssh

from boxsched.worker.session.programs import Program
from boxsched.worker.supervisor.session import ONCE, USERS, Settings

MAX_CHANNELS = 10  # of a connection, at a time


class OpenSession:
    """What the connections of a session share. ``ended``: why it ends, when it does."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.say = say
        self.keys = {asyncssh.import_public_key(key).public_data for key in settings.keys}
        self.connections: set[Connection] = set()
        self.programs: set[Program] = set()
        self.changed = asyncio.Event()  # a connection was authenticated, or ended
        self.seen = False  # somebody has connected
        self.ended: str | None = None

    def end(self, why: str) -> None:
        if self.ended is None:
            self.ended = why
            self.warn(f"this session ends: {why}")
        self.changed.set()

    def warn(self, text: str) -> None:
        for program in self.programs:
            program.warn(text)


class Connection(asyncssh.SSHServer):
    """One connection. ``place``: where it comes from, for the log."""

    def __init__(self, session: OpenSession, place: str) -> None:
        self._session = session
        self._place = place
        self._connection: asyncssh.SSHServerConnection
        self._user = ""
        self._channels = 0
        self.entered = False

    # --- Its life ---------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def auth_completed(self) -> None:
        self.entered = self._session.seen = True
        self._session.connections.add(self)
        self._session.changed.set()
        self._session.say(f"connected: {self._place}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.entered:
            self._session.connections.discard(self)
            self._session.changed.set()
            self._session.say(f"disconnected: {self._place}")

    def close(self, why: str) -> None:
        self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, why)

    async def closed(self) -> None:
        await self._connection.wait_closed()

    # --- Who may enter ----------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        self._user = username
        return True

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return False

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username in USERS and key.public_data in self._session.keys

    # --- What it may do ---------------------------------------------------------------------

    def session_requested(self) -> "tuple[asyncssh.SSHServerChannel[bytes], Shell] | bool":
        if self._channels >= MAX_CHANNELS:
            return False
        self._channels += 1
        channel = self._connection.create_server_channel(encoding=None)
        return channel, Shell(self._session, self)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        return self._session.settings.forwarding

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return self._session.settings.forwarding

    def unix_connection_requested(self, dest_path: str) -> bool:
        return self._session.settings.forwarding

    def unix_server_requested(self, listen_path: str) -> bool:
        return self._session.settings.forwarding

    def channel_closed(self) -> None:
        self._channels -= 1

    async def program_ended(self) -> None:
        """End the session if the user is ONCE, when the client has got the exit status."""
        if self._user == ONCE:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._session.settings.linger_seconds):
                    await self.closed()
            self._session.end("its command or shell has ended")


class Shell(asyncssh.SSHServerProcess[bytes]):
    """A channel with a command, a shell or files."""

    def __init__(self, session: OpenSession, connection: Connection) -> None:
        super().__init__(self._run, _files, 3, True)
        self._session = session
        self._owner = connection
        self._program: Program | None = None

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        settings = self._session.settings
        environment = dict(settings.environment)
        if agent := self.channel.get_agent_path():
            environment["SSH_AUTH_SOCK"] = agent
        if display := self.channel.get_x11_display():
            environment["DISPLAY"] = display
        self._program = Program(self, settings.shell, environment)
        self._session.programs.add(self._program)
        try:
            await self._program.run()
        finally:
            self._session.programs.discard(self._program)
            self._session.changed.set()
        await self._owner.program_ended()

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"  # the library would open a shell for any other

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._owner.channel_closed()

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._program is not None:
            self._program.resize(width, height, pixwidth, pixheight)

    def signal_received(self, signal: str) -> None:
        number = _NUMBERS.get(signal)
        if self._program is not None and number is not None:
            self._program.signal(number)

    def break_received(self, msec: int) -> bool:
        if self._program is not None:
            self._program.interrupt()
        return True


class Files(asyncssh.SFTPServer):
    """Serves files. The library sends no exit status, but ``scp`` waits for one.

    Only regular files are opened: a named pipe would stop the whole server until somebody opens its
    other end.
    """

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        _refuse_special(self.map_path(path))
        return super().open(path, pflags, attrs)

    def open56(
        self, path: bytes, desired_access: int, flags: int, attrs: asyncssh.SFTPAttrs
    ) -> object:
        _refuse_special(self.map_path(path))
        return super().open56(path, desired_access, flags, attrs)

    def exit(self) -> None:
        if self.channel.get_subsystem() is not None:
            with contextlib.suppress(OSError, asyncssh.Error):
                self.channel.exit(0)


def _refuse_special(path: bytes) -> None:
    """Raise SFTPFailure for what is there and is neither a file nor a folder."""
    with contextlib.suppress(OSError):  # the library answers with the error
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise asyncssh.SFTPFailure("not a regular file")


def _files(channel: object) -> asyncssh.SFTPServer:
    return Files(cast("asyncssh.SSHServerChannel[bytes]", channel))


# RFC 4254, section 6.9.
_NUMBERS = {
    name: signal.Signals[f"SIG{name}"].value
    for name in (
        *("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL"),
        *("PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"),
    )
}
