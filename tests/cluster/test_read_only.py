"""Servers that accept no writes: lock session and store find the server of the pair that does, and
follow a promotion."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsched.errors import StoreAway
from boxsched.protocol.shards import SHARD
from boxsched.store import open_store
from tests.cluster.conftest import RecordingLockSession
from tests.contract.postgres_server import PostgresServer, database, execute, served


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with served() as server:
        yield server


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="boxsched-standby-"))
    server = PostgresServer(folder)
    try:
        server.copy(primary)
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_standby_is_skipped_until_it_is_promoted(
    primary: PostgresServer, standby: PostgresServer, tmp_path: Path
) -> None:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in (standby, primary))
    both = f"postgresql://boxsched@{hosts}/postgres"
    session = RecordingLockSession(both, 1).start(1)
    session.until(lambda s: s.mine == {1})
    store = open_store(both, tmp_path)
    await store.open()
    await store.open_shards(1)

    primary.kill()
    session.until(lambda s: s.losses)
    seen = len(session.views)
    with pytest.raises(StoreAway):
        await store.set_organization(await store.organization())
    assert len(session.views) == seen  # the standby is running, but cannot be led from

    execute(standby.url("postgres"), "SELECT pg_promote()")
    session.until(lambda s: len(s.views) > seen and s.mine == {1})
    assert await store.batch_number(SHARD) is not None
    await store.close()
    session.end()


async def test_a_server_that_becomes_read_only_is_not_used_until_it_accepts_writes(
    primary: PostgresServer, tmp_path: Path
) -> None:
    with database(primary.url("postgres")) as url:
        store = open_store(url, tmp_path)
        await store.open()
        known = await store.organization()
        session = RecordingLockSession(url, 1).start(1)
        session.until(lambda s: s.mine == {1})

        writable = f"{primary.url('postgres')}?options=-cdefault_transaction_read_only%3Doff"
        execute(writable, "ALTER SYSTEM SET default_transaction_read_only = on")
        execute(writable, "SELECT pg_reload_conf()")
        session.until(lambda s: s.losses)
        assert "accepts no writes" in session.losses[0]
        with pytest.raises(StoreAway, match="accepts no writes"):
            await store.set_organization(known)
        with pytest.raises(StoreAway, match="read-only"):
            await store.ping()  # read connections move to the new server, too

        seen = len(session.views)
        execute(writable, "ALTER SYSTEM RESET default_transaction_read_only")
        execute(writable, "SELECT pg_reload_conf()")
        session.until(lambda s: len(s.views) > seen and s.mine == {1})
        await store.set_organization(known)
        await store.close()
        session.end()


def test_a_role_with_only_the_right_to_read_gets_an_explanation(primary: PostgresServer) -> None:
    execute(primary.url("postgres"), "CREATE ROLE reader LOGIN SUPERUSER")
    execute(primary.url("postgres"), "ALTER ROLE reader SET default_transaction_read_only = on")
    session = RecordingLockSession(
        primary.url("postgres").replace("boxsched@", "reader@"), 1
    ).start(1)
    session.until(lambda s: s.losses)
    assert "accepts no writes" in session.losses[0] and not session.views
    session.end()
