"""A PostgreSQL that tests kill, freeze and query: a direct child of the tests, durable, with its
log."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2

from tests.contract.postgres_server import PostgresServer, database
from tests.faults import processes
from tests.faults.waiting import until_true

STALE = 'null value in column "batch" of relation "shard"'  # how the fence refuses a write


class Postgres(PostgresServer):
    """Each method has taken effect when it returns. They block: call them in a thread if a proxy
    runs in the same loop."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, fsync=True)

    @property
    def _all(self) -> list[int]:
        return [self.pid, *processes.children(self.pid)]

    def kill(self) -> None:
        """Kill the server and all its backends at once, so that a restart need not wait for an
        orphan."""
        if self._process is None:
            return
        every = self._all
        processes.send(every, signal.SIGKILL)
        super().kill()
        processes.until_gone(every[1:])

    def kill_backend(self, pid: int) -> None:
        """Kill one backend: the server assumes damaged memory, ends all others and recovers."""
        processes.send([pid], signal.SIGKILL)

    def freeze(self) -> None:
        """Freeze the server first, so that it starts no new backend; its kernel still answers
        TCP."""
        processes.send(self._all, signal.SIGSTOP)
        processes.send(self._all, signal.SIGSTOP)

    def thaw(self) -> None:
        processes.send(reversed(self._all), signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def times_ready(self) -> int:
        return self.log().count("database system is ready to accept connections")

    def stale_writes(self) -> int:
        """Return how many writes of former leaders were refused."""
        return self.log().count(STALE)

    async def recovers(self, times_ready: int) -> None:
        """Wait until it is ready again; ``times_ready``: how often it was ready before."""
        await until_true(lambda: self.times_ready() > times_ready, "the database recovers")

    def ask(self, url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Query on a new connection, as another program would."""
        connection = psycopg2.connect(url, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        with database(self.url("postgres")) as url:
            yield url


@contextlib.contextmanager
def durable(*, everywhere: bool = False) -> Iterator[Postgres]:
    """``everywhere``: reachable at every address of its network."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-faults-"))
    server = None
    try:
        server = Postgres(folder)
        server.create()
        if everywhere:
            server.settings["listen_addresses"] = "*"
            server.write("pg_hba.conf", "host all all 0.0.0.0/0 trust\n")
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
