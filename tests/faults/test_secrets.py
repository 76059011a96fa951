"""Where a secret is stored while a cluster uses it: in its job, and nowhere else (docs/faults.md,
S22)."""

import asyncio
import base64
import contextlib
import hashlib
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.bus.redis_server import Server
from tests.faults.clients import Reply
from tests.faults.cluster import Cluster, closing_cluster
from tests.faults.postgres import Postgres
from tests.faults.waiting import until_true

CANARY = "canary-9d1e/value+4"
WEBHOOK, HOOK = "canary-9d1e-webhook", "canary-9d1e-hook"
FORMS = [
    form
    for text in (CANARY, WEBHOOK, HOOK)
    for form in (
        text.encode(),
        urllib.parse.quote(text, safe="").encode(),
        *(base64.b64encode(b"x" * n + text.encode())[4:-4] for n in range(3)),
    )
]


def found_in(text: bytes) -> bool:
    return any(form in text for form in FORMS)


def files_with_it(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and found_in(path.read_bytes()):
                yield path


def command_lines_with_it() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if found_in(text := path.read_bytes()):
                yield text.decode(errors="replace")


async def rows_with_it(cluster: Cluster) -> list[str]:
    """Return the tables that contain it, in any column."""
    names = await cluster.sql(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
    )
    assert len(names) > 20
    found = []
    for (name,) in names:
        rows = await cluster.sql(f'SELECT t::text FROM "{name}" AS t')
        if any(found_in(text.encode()) for (text,) in rows):
            found.append(name)
    return found


@contextlib.asynccontextmanager
async def redis_heard(url: str) -> AsyncIterator[bytearray]:
    """Return all commands that Redis receives meanwhile, from its MONITOR."""
    heard = bytearray()
    place = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"

    async def listen() -> None:
        while data := await reader.read(65_536):
            heard.extend(data)

    listening = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.close()


async def test_a_secret_is_in_its_job_and_nowhere_else(
    postgres: Postgres, redis_server: Server, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(base64.b64encode(b"k" * 32).decode())
    go = tmp_path / "go"
    digest = hashlib.sha256(CANARY.encode()).hexdigest()
    job = {
        "name": "j",
        "commands": [
            f'test "$(printf %s "$CANARY" | sha256sum | cut -c1-64)" = {digest}',
            'echo "seen $CANARY"; printf %s "$CANARY" | base64; touch running',
            f"until [ -e {go} ]; do sleep 0.05; done",
        ],
    }
    with postgres.database() as url:
        async with (
            redis_heard(redis_server.url) as heard,
            closing_cluster(Cluster(tmp_path, postgres, url, redis_server.url)) as cluster,
        ):
            await cluster.add_nodes(2, "--secrets-key-file", str(key))
            worker = await cluster.add_worker(2)
            hooks = [{"url": "https://hooks.invalid/x", "secret": HOOK}]
            await cluster.put_project(job, webhook_secret=WEBHOOK, hooks=hooks)

            async def asked(method: str, path: str, body: object = None) -> Reply:
                """The node that does not lead, which most callers reach."""
                reply = await cluster.clients.once(cluster.nodes[1].url, method, path, body)
                assert method == "PUT" or not found_in(str(reply.json).encode()), (path, reply)
                return reply

            put = await asked("PUT", "projects/web/secrets/CANARY", {"value": CANARY})
            assert put.status in (200, 201, 204) and not found_in(str(put.json).encode()), put
            build = (await asked("POST", "projects/web/builds", {"branch": "main"})).json["id"]
            await until_true(lambda: any(worker.data.rglob("running")), "the job has its secret")
            assert not list(command_lines_with_it())
            assert not list(files_with_it(tmp_path))
            assert not await rows_with_it(cluster)
            go.touch()
            await cluster.until_idle()
            done = (await asked("GET", f"workloads/{build}")).json
            assert done["result"] == "passed", done
            log = await cluster.clients.text(
                f"{cluster.nodes[0].url}/api/v1/jobs/{done['jobs'][0]['id']}/log"
            )
            assert "seen ***" in log and not found_in(log.encode())
            for path in ("projects/web", "projects/web/secrets", "projects", "activity"):
                await asked("GET", path)
            assert not await rows_with_it(cluster)
            assert not list(files_with_it(tmp_path))
            assert b"publish" in heard.lower() and not found_in(bytes(heard))
            assert not [p.name for p in cluster.programs if found_in(p.said.encode())]
