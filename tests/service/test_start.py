"""A node whose PostgreSQL is not available yet, or never will be."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import attrs
import psycopg2
import pytest

from boxsched import service as service_process
from boxsched.cli.connection import Service
from boxsched.cli.failing import Failure
from boxsched.errors import StoreAway
from boxsched.folders import STARTING, DataFolder
from boxsched.listening import bound
from boxsched.node.options import Options
from boxsched.protocol.lock_keys import LockKeys
from boxsched.protocol.workers import Connected, NewWorker
from boxsched.store import errors
from boxsched.store.store import Store
from tests.contract.postgres_server import PostgresServer, _port, database, execute, served
from tests.service.running_service import RunningService

SECONDS = 120.0  # no test depends on speed: this only ends a test that hangs


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with served() as server:
        yield server


@pytest.fixture
def port() -> int:
    return _port()


def options(data: Path, url: str, port: int) -> Options:
    return Options(data=data, database=url, port=port, boxes=0, retry_interval=0.1)


def local(data: Path) -> Service:
    """The setting that a command with ``--data`` reads."""
    return Service((), None, None, data)


async def until_answers(url: str, path: str, status: int) -> bytes:
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(url + path) as answer:
                    if answer.status == status:
                        return await answer.read()
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)


async def test_a_node_waits_for_a_database_that_starts_later(
    server: PostgresServer, port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with database(server.url("postgres")) as url:
        server.kill()
        node = asyncio.create_task(service_process.serve(options(tmp_path, url, port)))
        here = f"http://127.0.0.1:{port}"
        await until_answers(here, "/healthz", 200)
        assert b"store_away" in await until_answers(here, "/readyz", 503)
        assert b"store_away" in await until_answers(here, "/api/v1/projects", 503)
        with pytest.raises(Failure, match=r"has not started yet: .*127.0.0.1.*; it tries again"):
            local(tmp_path).find()
        server.start()
        await until_answers(here, "/readyz", 200)
        assert (tmp_path / STARTING).exists() is False
        said = [one.getMessage() for one in caplog.records if one.name == "boxsched.service"]
        assert len([text for text in said if "trying again" in text]) == 1
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(node, SECONDS)


async def test_the_wait_can_be_interrupted(port: int, tmp_path: Path) -> None:
    away = f"postgresql://boxsched@127.0.0.1:{_port()}/boxsched"
    node = asyncio.create_task(service_process.serve(options(tmp_path, away, port)))
    await until_answers(f"http://127.0.0.1:{port}", "/healthz", 200)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(node, SECONDS)
    with pytest.raises(Failure, match="no service is running"):
        local(tmp_path).find()


def test_the_message_of_a_killed_service_that_waited_is_ignored(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    data = DataFolder(tmp_path)
    data.starting_file.write_text(f'{{"pid": {ended.pid}, "waits_for": "its database"}}')
    assert data.starting() is None
    data.starting_file.write_text(f'{{"pid": {os.getpid()}, "waits_for": "its database"}}')
    assert data.starting() is not None


@pytest.mark.parametrize("wrong", ["role", "database", "password", "schema", "right"])
async def test_an_error_that_waiting_cannot_solve_is_reported_at_once(
    server: PostgresServer, port: int, tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    with database(server.url("postgres")) as url:
        expected: type[StoreAway] = errors.StoreRefuses
        if wrong == "role":
            url = url.replace("boxsched@", "nobody-of-that-name@")
        elif wrong == "database":
            url += "_not"
        elif wrong == "password":
            server.write("pg_hba.conf", "host all known all md5\nhost all all all trust\n")
            execute(url, "SELECT pg_reload_conf()")
            execute(url, "DROP ROLE IF EXISTS known")
            execute(url, "CREATE ROLE known LOGIN PASSWORD 'right'")
            url = url.replace("boxsched@", "known:wrong@")
        elif wrong == "schema":
            execute(url, "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            execute(url, "INSERT INTO meta VALUES ('schema', '99'), ('oldest', '99')")
            expected = errors.SchemaTooNew
        else:
            execute(url, "DROP ROLE IF EXISTS visitor")
            execute(url, "CREATE ROLE visitor LOGIN")
            url = url.replace("boxsched@", "visitor@")
            expected = errors.SchemaTooOld
        with pytest.raises(expected):
            async with asyncio.timeout(SECONDS):
                await service_process.serve(options(tmp_path, url, port))
        assert not [one for one in caplog.records if "trying again" in one.getMessage()]


class Errors(logging.Handler):
    """Everything that is logged as an error, from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._loop.call_soon_threadsafe(self._said.put_nowait, record.getMessage())

    async def get(self) -> str:
        return await self._said.get()


@pytest.fixture
async def said() -> AsyncIterator[Errors]:
    handler = Errors()
    log = logging.getLogger("boxsched.cluster")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


async def test_another_cluster_that_came_meanwhile_stops_no_answers(
    server: PostgresServer, tmp_path: Path, said: Errors
) -> None:
    with database(server.url("postgres")) as url:
        async with RunningService.open(
            tmp_path, database=url, boxes=0, retry_interval=0.1
        ) as service:
            await service.project("web")
            keys = LockKeys.of(service.node.options.lock_key, await service.node.store.cluster())
            other = psycopg2.connect(url)
            with other.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_advisory_lock_shared(%s, %s)", (keys.clusters, keys.cluster ^ 1)
                )
            execute(
                url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'boxsched leader' AND datname = current_database()",
            )
            async with asyncio.timeout(SECONDS):
                assert "--lock-key" in await said.get()
            assert not service.node.leadership.led
            assert (await service.call("GET", "/readyz", token=None)).status == 200
            build = await service.build()
            assert (await service.look(build["id"]))["state"] == "registered"
            other.close()
            await service.until(build["id"], state="queued")


async def test_a_node_waits_again_for_a_database_that_goes_away_during_its_start(
    server: PostgresServer, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter((True, True))
    connect = Store.connect_worker

    async def killed(store: Store, new: NewWorker) -> Connected:
        if next(kills, False):
            server.kill()
            asyncio.get_running_loop().run_in_executor(None, server.start)
        return await connect(store, new)

    monkeypatch.setattr(Store, "connect_worker", killed)
    with database(server.url("postgres")) as url:
        node = asyncio.create_task(service_process.serve(options(tmp_path, url, port)))
        await until_answers(f"http://127.0.0.1:{port}", "/readyz", 200)
        assert next(kills, None) is None, "it went twice"
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(node, SECONDS)


async def test_a_node_that_cannot_listen_has_changed_nothing(
    server: PostgresServer, tmp_path: Path
) -> None:
    with database(server.url("postgres")) as url, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await service_process.serve(options(tmp_path, url, taken))
        with bound("127.0.0.1", 0) as first:
            port = int(first.url.rpartition(":")[2])
            with pytest.raises(OSError, match="in use"):
                await service_process.serve(options(tmp_path, url, port))
        with pytest.raises(socket.gaierror):
            await service_process.serve(
                attrs.evolve(options(tmp_path, url, 0), host="no such host")
            )
        execute(url, "CREATE TABLE node ()")  # there is none
