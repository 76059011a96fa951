"""A primary and its standby, which can be killed, promoted and restarted; one URL for both."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from tests.contract.postgres_server import PostgresServer, execute


class PrimaryAndStandby:
    """``first`` starts as the primary; ``url`` names both, the first one first."""

    def __init__(self, first: PostgresServer, second: PostgresServer) -> None:
        self.first = first
        self.second = second
        self.url = both_urls(first, second)

    def promote(self) -> None:
        """Promote the second; return once it accepts writes."""
        execute(self.second.url("postgres"), "SELECT pg_promote()")

    def caught_up(self) -> None:
        """Wait until the second has everything that the first has committed."""
        ((there,),) = self.asked(self.first, "SELECT pg_current_wal_lsn()")
        until = time.monotonic() + 20
        while not self.asked(self.second, f"SELECT pg_last_wal_replay_lsn() >= '{there}'")[0][0]:
            assert time.monotonic() < until, "the standby does not follow"
            time.sleep(0.02)

    def come_back(self) -> None:
        """Start the first again as it was killed: it accepts writes and waits for no standby."""
        self.first.settings["synchronous_standby_names"] = ""
        self.first.start()

    def asked(self, server: PostgresServer, statement: str, *values: object) -> list[tuple]:
        """Query one server directly, whichever the nodes use."""
        connection = psycopg2.connect(server.url("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall()
        finally:
            connection.close()

    # --- With the second as a synchronous standby -------------------------------------------

    def wait_for_second(self, how: str = "remote_apply") -> None:
        """From now on commits on the first wait for the second."""
        execute(self.first.url("postgres"), "ALTER SYSTEM SET synchronous_standby_names = '*'")
        execute(self.first.url("postgres"), f"ALTER SYSTEM SET synchronous_commit = {how}")
        execute(self.first.url("postgres"), "SELECT pg_reload_conf()")
        until = time.monotonic() + 20
        states = "SELECT sync_state FROM pg_stat_replication"
        while self.asked(self.first, states) != [("sync",)]:
            assert time.monotonic() < until, "the standby is not synchronous"
            time.sleep(0.02)
        # Commits wait once the checkpointer has read the setting, which it does before a
        # checkpoint.
        execute(self.first.url("postgres"), "CHECKPOINT")

    def that_wait_for_second(self) -> list[int]:
        """Return the first's processes whose commit waits for the second; at least one."""
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until = time.monotonic() + 20
        while not (found := self.asked(self.first, waits)):
            assert time.monotonic() < until, "no commit waits for the standby"
            time.sleep(0.02)
        return [pid for (pid,) in found]

    def lag(self, seconds: float) -> None:
        """Delay the second's replay by this time."""
        for said in (
            f"ALTER SYSTEM SET recovery_min_apply_delay = '{int(seconds * 1000)}ms'",
            "SELECT pg_reload_conf()",
        ):
            execute(self.second.url("postgres"), said)

    def hold(self) -> None:
        """The second receives nothing any more, without an error on either side."""
        (pid,) = self.asked(self.second, "SELECT pid FROM pg_stat_wal_receiver")[0]
        self._held = pid
        os.kill(pid, signal.SIGSTOP)

    def let_go(self) -> None:
        os.kill(self._held, signal.SIGCONT)


def both_urls(*servers: PostgresServer) -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://boxsched@{hosts}/postgres"


@contextlib.contextmanager
def standby_of(
    primary: PostgresServer, port: int | None = None, **settings: str
) -> Iterator[PostgresServer]:
    """``port``: of a server that is gone, to take over its address."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-standby-"))
    server = PostgresServer(folder)
    server.port = port or server.port
    server.settings.update(settings)
    try:
        server.copy(primary)
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def pair(**settings: str) -> Iterator[PrimaryAndStandby]:
    """``settings``: of the standby."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-primary-"))
    first = PostgresServer(folder)
    try:
        first.create()
        first.start()
        with standby_of(first, **settings) as second:
            yield PrimaryAndStandby(first, second)
    finally:
        first.kill()
        shutil.rmtree(folder, ignore_errors=True)
