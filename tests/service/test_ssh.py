"""SSH sessions at workers of their own, entered through the service with real programs."""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiohttp import WSCloseCode

from boxsched.gateway.link import SILENT
from boxsched.gateway.long_polls import new_id
from boxsched.worker.remote.discovery import SystemNames
from tests.contract.postgres_server import database
from tests.openssh import OpenSsh, Ran, needs_openssh, ran
from tests.service.http_proxy import Refusal
from tests.service.running_service import API, PATIENCE_SECONDS, RunningService
from tests.service.test_long_polling import polling, worker_token
from tests.service.test_tokens import server  # noqa: F401 (a fixture)
from tests.worker.nodes_and_workers import TaskWorker, end_jobs

BYTES = 50_000_000


@pytest.fixture
async def boxless(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await service.project()
        yield service


@contextlib.asynccontextmanager
async def working(
    folder: Path, url: str, token: str, *, ssh_address: str | None = None
) -> AsyncIterator[TaskWorker]:
    """A worker at which nothing listens, or its sessions listen at ``ssh_address``."""
    worker = TaskWorker(folder, [url], SystemNames(), token=lambda: token, ssh_address=ssh_address)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not worker.first:  # noqa: ASYNC110 (a list that the worker fills)
                await asyncio.sleep(0.01)
        yield worker
    finally:
        worker.task.cancel()
        await asyncio.gather(worker.task, return_exceptions=True)
        await end_jobs(folder)


def boxsched(service: RunningService, *arguments: str) -> list[str]:
    """A command line of the client, for any shell: without variables of its own."""
    given = ("--url", service.url, "--token", service.token)
    return [sys.executable, "-m", "boxsched", "ssh", *given, *arguments]


async def opened(service: RunningService, user: OpenSsh) -> str:
    """Submit a session; return its id when it is open."""
    asked = {"branch": "main", "public_key": user.public_key}
    answer = await service.call("POST", f"{API}/projects/web/ssh-sessions", asked)
    assert answer.status == 201 and answer.json["ssh"] is None
    id_: str = answer.json["id"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await service.get(f"/workloads/{id_}"))["ssh"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return id_


async def inside(service: RunningService, user: OpenSsh, id_: str) -> OpenSsh:
    """Return the user for a session, entered with OpenSSH through the service."""
    host_key = (await service.get(f"/workloads/{id_}"))["ssh"]["host_key"]
    return user.through(" ".join(boxsched(service, "--proxy", f"{id_}.boxsched")), host_key)


@pytest.fixture
def user(tmp_path: Path) -> OpenSsh:
    return OpenSsh.user(tmp_path / "user")


async def run(service: RunningService, *arguments: str, given: bytes = b"") -> Ran:
    return await ran(boxsched(service, *arguments), given)


async def test_a_command_is_run_through_the_service(
    boxless: RunningService, tmp_path: Path
) -> None:
    async with working(tmp_path / "w", boxless.url, await worker_token(boxless)):
        asked = ("web", "--branch", "main", "--", "cat; echo no >&2; exit 7")
        done = await run(boxless, *asked, given=b"in")
        assert (done.status, done.out, done.errors) == (7, b"in", "no\n")
        killed = await run(boxless, "web", "--branch", "main", "--", "kill -TERM $$")
        assert killed.status == 128 + 15
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await boxless.get("/workloads/w2"))["state"] != "finished":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    last = await boxless.get("/workloads/w2")
    assert (last["result"], last["ssh"]) == ("passed", None)


async def test_it_says_why_it_waits_and_a_session_that_never_opens_fails(
    boxless: RunningService, tmp_path: Path
) -> None:
    await boxless.project(repository=f"{tmp_path}/nothing")
    process = await asyncio.create_subprocess_exec(
        *boxsched(boxless, "web", "--branch", "main", "--", "true"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"cannot start now: No worker is connected" in await process.stderr.readline()
    async with working(tmp_path / "w", boxless.url, await worker_token(boxless)):
        assert b"git clone failed" in await process.stderr.read()
        assert await process.wait() == 1


@needs_openssh
async def test_openssh_enters_through_the_service(
    boxless: RunningService, tmp_path: Path, user: OpenSsh
) -> None:
    async with working(tmp_path / "w", boxless.url, await worker_token(boxless)):
        id_ = await opened(boxless, user)
        session = await inside(boxless, user, id_)
        (tmp_path / "file").write_bytes(os.urandom(200_000))
        shell, copied = await asyncio.gather(
            session.run("echo $BOXSCHED_WORKLOAD"), session.copy(f"{tmp_path}/file", ":copy")
        )
        assert (shell.status, shell.out, copied.status) == (0, f"{id_}\n".encode(), 0)
        assert (await session.copy(":copy", f"{tmp_path}/back")).status == 0
        assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
        big = await session.run(f"head -c {BYTES} /dev/zero")
        assert (big.status, len(big.out)) == (0, BYTES)
        key = await run(boxless, "--host-key", f"{id_}.boxsched")
        known = (user.home / "known_hosts").read_text().split(" ", 1)[1]
        assert key.out.decode() == f"{id_}.boxsched {known}"


@needs_openssh
async def test_a_worker_that_polls_is_entered_through_the_service(
    boxless: RunningService, tmp_path: Path, user: OpenSsh
) -> None:
    """Bytes arrive in order, each once, also where answers are lost; the session ends after it."""
    async with polling(tmp_path / "w", Refusal.STATUS, boxless, ssh_address=None) as (proxy, _):
        id_ = await opened(boxless, user)
        session = await inside(boxless, user, id_)
        data = os.urandom(BYTES // 10)
        shell = await asyncio.create_subprocess_exec(
            *session.command("ssh", session.target, "echo begun; cat"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert shell.stdout is not None
        assert await shell.stdout.readline() == b"begun\n"
        proxy.lose = 5
        echoed, sent, taken = await asyncio.gather(
            shell.communicate(data),
            session.run(f"head -c {BYTES // 5} /dev/zero"),
            session.run("wc -c", given=bytes(BYTES // 5)),
        )
        assert echoed[0] == data and shell.returncode == 0 and proxy.lose == 0
        assert (sent.status, len(sent.out)) == (0, BYTES // 5)
        assert taken.out.strip() == str(BYTES // 5).encode()
        assert (await boxless.until(id_, state="finished"))["result"] == "passed"
        assert not boxless.node.entering.open


@contextlib.asynccontextmanager
async def two_nodes(
    postgres: str, folder: Path
) -> AsyncIterator[tuple[RunningService, RunningService]]:
    """Two nodes without Boxes over one database, with a project."""
    with database(postgres) as url:
        async with (
            RunningService.open(folder / "one", database=url, boxes=0) as one,
            RunningService.open(folder / "two", database=url, boxes=0) as two,
        ):
            for at in (one, two):
                await at.node.store.put_node(at.node.name, at.url, "1")
            await one.project()
            yield one, two


async def enter_each(*nodes: RunningService) -> None:
    for at in nodes:
        done = await run(at, "web", "--branch", "main", "--", f"head -c {BYTES // 10} /dev/zero")
        assert (done.status, len(done.out)) == (0, BYTES // 10), done.errors


async def test_a_polling_worker_is_entered_behind_a_balancer(
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with (
        two_nodes(server, tmp_path) as (one, two),
        polling(tmp_path / "w", Refusal.STRIP, one, two, ssh_address=None),
    ):
        await enter_each(one, two)


@needs_openssh
async def test_a_tunnel_that_is_cut_ends_its_connection_and_the_session_can_be_entered_again(
    boxless: RunningService, tmp_path: Path, user: OpenSsh
) -> None:
    """A direct connection keeps the session open, however long the worker is away."""
    token = await worker_token(boxless)
    at = "127.0.0.1"
    async with working(tmp_path / "w", boxless.url, token, ssh_address=at) as worker:
        id_ = await opened(boxless, user)
        place = (await boxless.get(f"/workloads/{id_}"))["ssh"]
        direct = user.directly(at, place["port"], place["host_key"])
        keeper = await asyncio.create_subprocess_exec(
            *direct.command("ssh", direct.target, "echo begun; cat"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert keeper.stdout is not None
        await keeper.stdout.readuntil(b"begun\n")
        session = await inside(boxless, user, id_)
        process = await asyncio.create_subprocess_exec(
            *session.command("ssh", session.target, "echo begun; sleep 1000"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        await process.stdout.readuntil(b"begun\n")
        await worker.end()
        assert await process.wait() == 255
        async with working(tmp_path / "w", boxless.url, token, ssh_address=at):
            assert (await session.run("echo again")).out == b"again\n"
            await keeper.communicate(b"")
            assert keeper.returncode == 0


@needs_openssh
@pytest.mark.parametrize("polls", [False, True])
async def test_a_worker_that_falls_silent_loses_its_tunnels_and_nothing_is_left_of_them(
    polls: bool, boxless: RunningService, tmp_path: Path, user: OpenSsh
) -> None:
    """The client gets an end, the session ends by itself, and no descriptor or task is left."""
    if polls:
        at = polling(tmp_path / "w", Refusal.STATUS, boxless, ssh_address=None)
    else:
        at = working(tmp_path / "w", boxless.url, await worker_token(boxless))
    async with at:
        id_ = await opened(boxless, user)
        session = await inside(boxless, user, id_)
        before = tunnel_tasks(), descriptors()
        process = await asyncio.create_subprocess_exec(
            *session.command("ssh", session.target, "echo begun; sleep 1000"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        await process.stdout.readuntil(b"begun\n")
        assert boxless.node.entering.open
        [worker] = boxless.node.gateway.connected
        link = boxless.node.gateway.link(worker)
        assert link is not None
        link.end(WSCloseCode.TRY_AGAIN_LATER, SILENT)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 255
        assert (await boxless.until(id_, state="finished"))["result"] == "passed"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while boxless.node.entering.open or tunnel_tasks() > before[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while not polls and descriptors() > before[1]:  # noqa: ASYNC110 (a proxy keeps its own)
                await asyncio.sleep(0.01)


def tunnel_tasks() -> int:
    """The number of tasks that carry tunnels, at the node and the worker."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return sum("join_" in name or "_carry" in name or "keep_alive" in name for name in names)


def descriptors() -> int:
    """The number of this process's sockets, without those of clients that are kept for later."""
    places = Path("/proc/self/fd").iterdir()
    return sum("socket" in os.readlink(one) for one in places if one.exists())


async def test_a_tunnels_long_polling_is_for_its_worker(
    boxless: RunningService, tmp_path: Path, user: OpenSsh
) -> None:
    token, stranger = await worker_token(boxless), await worker_token(boxless)
    number = boxless.node.info.id
    for path, asks, status in (
        (f"{number}.guessed", token, 404),
        (f"{number + 1}.guessed", token, 404),
        (new_id(str(number + 1)), token, 421),
        (f"{number}.guessed", stranger, 404),
        (f"{number}.guessed", boxless.token, 403),
        (f"{number}.guessed", None, 401),
    ):
        polls = f"{API}/worker/tunnels/{path}/polls"
        assert (await boxless.call("GET", f"{polls}?after=0", token=asks)).status == status
        sent = await boxless.call("POST", f"{polls}?number=1", data=b"", token=asks)
        assert sent.status == status
        assert (await boxless.call("DELETE", polls, token=asks)).status == status


async def test_a_stopping_node_ends_its_tunnels(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await service.project()
        token = await worker_token(service)
        async with working(tmp_path / "w", service.url, token):
            asked = ("web", "--branch", "main", "--", "echo begun; sleep 1000")
            process = await asyncio.create_subprocess_exec(
                *boxsched(service, *asked),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None and process.stderr is not None
            await process.stdout.readuntil(b"begun\n")
            async with asyncio.timeout(PATIENCE_SECONDS):
                await service.node.hang_up()
                assert await process.wait() == 255
            said = await process.stderr.read()
            assert said == b"boxsched: lost the connection to the session w1: the node stops\n"


async def test_who_may_not_enter(boxless: RunningService, tmp_path: Path, user: OpenSsh) -> None:
    build = await boxless.build()
    wrong = await boxless.call("GET", f"{API}/workloads/{build['id']}/ssh")
    assert (wrong.status, wrong.error["message"]) == (409, "this is not an SSH session")
    asked = {"branch": "main", "public_key": user.public_key}
    waits = (await boxless.call("POST", f"{API}/projects/web/ssh-sessions", asked)).json["id"]
    path = f"{API}/workloads/{waits}/ssh"
    assert (await boxless.call("GET", path)).error["message"].endswith("is not open")
    assert (await boxless.call("GET", path, token=None)).status == 401
    worker = await worker_token(boxless)
    assert (await boxless.call("GET", path, token=worker)).status == 403
    tunnel = f"{API}/worker/tunnels/1.guessed"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert (await boxless.call("GET", tunnel, token=worker, headers=upgrade)).status == 404
    assert (await boxless.call("GET", tunnel)).status == 403


async def test_a_token_has_a_limited_number_of_tunnels(tmp_path: Path, user: OpenSsh) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0, tunnels_per_token=1) as service:
        await service.project()
        async with working(tmp_path / "w", service.url, await worker_token(service)):
            id_ = await opened(service, user)
            inside = await asyncio.create_subprocess_exec(
                *boxsched(service, "--proxy", id_),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert inside.stdout is not None
            assert (await inside.stdout.readline()).startswith(b"SSH-2.0")
            refused = await run(service, "--proxy", id_)
            assert refused.status == 1 and not refused.out
            assert "has 1 connections into SSH sessions" in refused.errors
            assert "--tunnels-per-token" in refused.errors
            asked = {"role": "admin", "name": "other"}
            other = (await service.call("POST", f"{API}/tokens", asked)).json["token"]
            path = f"{API}/workloads/{id_}/ssh"
            assert (await service.call("GET", path)).error["code"] == "too_many_tunnels"
            assert (await service.call("GET", path, token=other)).error["code"] == "malformed"
            await inside.communicate(b"")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while service.node.entering.open:  # noqa: ASYNC110 (a number)
                    await asyncio.sleep(0.01)
            assert (await service.call("GET", path)).error["code"] == "malformed"


@contextlib.asynccontextmanager
async def balanced(urls: Sequence[str]) -> AsyncIterator[str]:
    """A load balancer that gives each connection to the next node."""
    ports = itertools.cycle([int(url.rpartition(":")[2]) for url in urls])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", next(ports))

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65_536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, there), copy(back, writer))

    balancer = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{balancer.sockets[0].getsockname()[1]}"
    finally:
        balancer.close()


async def test_any_node_lets_in_also_behind_a_balancer(server: str, tmp_path: Path) -> None:  # noqa: F811
    """The worker's connection and its tunnels come to different nodes, and so do clients."""
    async with two_nodes(server, tmp_path) as (one, two):
        token = await worker_token(one)
        async with (
            balanced([one.url, two.url]) as balancer,
            working(tmp_path / "w", balancer, token),
        ):
            await enter_each(one, two, one, two)
