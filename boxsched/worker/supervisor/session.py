"""The sockets and settings of an SSH session's server, which runs in place of a job's script.

The supervisor makes the sockets and passes them on, so that the server works without a network and
needs no path. The one for connections through a node is a Unix socket in the attempt's folder.
Its job cannot see that folder if it is isolated. The other one is a TCP socket of the worker.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# ``python -I -S -X utf8 -c BOOT PATHS SETTINGS``: PATHS is a JSON list, SETTINGS a descriptor.
BOOT = (
    "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); "
    "from boxsched.worker.session.server import main; main(int(sys.argv[2]))"
)

SOCKET = "ssh"  # in the attempt's folder
BACKLOG = 16

USER = "box"
ONCE = "box-once"  # the session ends when a command or shell of this user ends
USERS = (USER, ONCE)

WAIT_SECONDS = 600.0  # for the first connection
LINGER_SECONDS = 5.0  # after the last connection
WARN_SECONDS = (300.0, 60.0)  # before the time limit

_SETTINGS_BYTES = 16 << 20
_KEY_BYTES = 512
_HOST_KEY = re.compile(rb"ssh-ed25519 [A-Za-z0-9+/]{40,100}={0,2}\n")
# Variables of the server itself. Its programs get all of the job's.
_SERVERS_OWN = ("PATH", "LANG", "HOME", "TMPDIR")


class SessionPlan(NamedTuple):
    """``keys``: public keys that may enter. ``shell``: the path of bash. ``address``: where the
    TCP socket listens; None: there is none.
    """

    keys: list[str]
    forwarding: bool
    shell: str
    address: str | None


class Settings(NamedTuple):
    """What the server is told. ``environment``: of its programs. ``seconds``: until the time limit
    of ``limit`` seconds. ``listeners`` and ``announce``: descriptors.
    """

    keys: list[str]
    forwarding: bool
    environment: dict[str, str]
    shell: str
    limit: float
    seconds: float
    listeners: list[int]
    announce: int
    wait_seconds: float = WAIT_SECONDS
    linger_seconds: float = LINGER_SECONDS
    warn_seconds: Sequence[float] = WARN_SECONDS


def write_settings(settings: Settings) -> int:
    """Return the descriptor of a file in memory with the settings. Raises OSError."""
    file = os.memfd_create("session", os.MFD_CLOEXEC)
    try:
        data = memoryview(json.dumps(settings).encode())
        while data:
            data = data[os.write(file, data) :]
        os.lseek(file, 0, os.SEEK_SET)
    except OSError:
        os.close(file)
        raise
    return file


def read_settings(file: int) -> Settings:
    """Read and close the file."""
    with open(file, "rb") as settings:
        return Settings(*json.loads(settings.read(_SETTINGS_BYTES)))


def servers_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the server itself: none that could change how it runs."""
    its = {
        name: value
        for name, value in environment.items()
        if name in _SERVERS_OWN or name.startswith("BOXSCHED_")
    }
    if "LD_LIBRARY_PATH" in os.environ:  # the interpreter may need it
        its["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return its


class Door:
    """The sockets of a session, until its server has them. ``port``: of the TCP socket; None: there
    is none. Raises OSError.
    """

    def __init__(self, at: int, plan: SessionPlan) -> None:
        self.plan = plan
        self.announced = -1  # the server's host key comes out of this pipe
        self._inner = -1
        self._settings = -1
        self._opened = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            node = opened.enter_context(_unix_listener(at))
            direct = _tcp_listener(plan.address)
            listeners = [node] if direct is None else [node, opened.enter_context(direct)]
            self.announced, self._inner = os.pipe()
            os.set_blocking(self.announced, False)
            opened.callback(os.close, self._inner)
            self._opened = opened.pop_all()
        self.port: int | None = None if direct is None else direct.getsockname()[1]
        self._listeners = [listener.fileno() for listener in listeners]

    def inherited(self, environment: dict[str, str], limit: float, seconds: float) -> list[int]:
        """Write the settings; return the descriptors for the server, that of the settings first."""
        plan = self.plan
        settings = Settings(
            plan.keys,
            plan.forwarding,
            environment,
            plan.shell,
            limit,
            seconds,
            self._listeners,
            self._inner,
        )
        file = write_settings(settings)
        self._opened.callback(os.close, file)
        return [file, self._inner, *self._listeners]

    def close(self) -> None:
        """Close what the server has inherited."""
        self._opened.close()

    def host_key(self) -> str | None:
        """Return the host key that the server announced, None if it has announced none. Then close
        the pipe.
        """
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = os.read(self.announced, _KEY_BYTES)
        os.close(self.announced)
        self.announced = -1
        return said.decode().strip() if _HOST_KEY.fullmatch(said) else None


def _unix_listener(at: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The folder's own path may be too long for a socket.
        listener.bind(f"/proc/self/fd/{at}/{SOCKET}")
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _tcp_listener(address: str | None) -> socket.socket | None:
    """Return a listener on a free port; None if there is none at this address now."""
    if address is None:
        return None
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, 0), family=family, backlog=BACKLOG)
    except OSError:
        return None
