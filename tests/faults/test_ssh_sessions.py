"""SSH sessions whose node is killed or whose worker is frozen, while they transfer data."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from tests.faults.cluster import Cluster
from tests.faults.members import Node, Worker
from tests.faults.waiting import GENEROUS_SECONDS, until
from tests.openssh import OpenSsh, needs_openssh

BYTES = 1_000_000
LOST = "boxsched: lost the connection to the session "
ENDLESS = "exec cat /dev/zero"


@attrs.define
class Client:
    """A program that is inside a session."""

    process: Process

    async def read(self, count: int) -> bytes:
        assert self.process.stdout is not None
        async with asyncio.timeout(GENEROUS_SECONDS):
            return await self.process.stdout.readexactly(count)

    async def echo(self, text: bytes) -> bytes:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        return await self.read(len(text))

    async def lost(self) -> str:
        """Read what still arrives; return what it says at its end, which is an error."""
        async with asyncio.timeout(GENEROUS_SECONDS):
            _, errors = await self.process.communicate()
        assert self.process.returncode == 255, errors
        return errors.decode()


def boxsched(cluster: Cluster, node: Node, *arguments: str) -> list[str]:
    """The client of a user at another machine: it has the token and the URL of one node."""
    token = cluster.nodes[0].token
    return [
        sys.executable,
        "-m",
        "boxsched",
        "ssh",
        "--url",
        node.url,
        "--token",
        token,
        *arguments,
    ]


@contextlib.asynccontextmanager
async def running(cluster: Cluster, *command: str) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cluster.folder,
        env={**os.environ, "HOME": str(cluster.folder)},
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def near_and_far(cluster: Cluster) -> tuple[Node, Node]:
    """Return the node that the only worker is connected to, and the other one."""
    await cluster.until_workers()
    one, other = cluster.nodes
    is_near = await cluster.metric(one, "boxsched_workers_connected")
    return (one, other) if is_near else (other, one)


@attrs.define
class Session:
    """A session that was opened with a key of OpenSSH."""

    cluster: Cluster
    id: str
    user: OpenSsh
    place: dict[str, Any]

    @classmethod
    async def open(cls, cluster: Cluster) -> "Session":
        user = OpenSsh.user(cluster.folder / "user")
        asked = {"branch": "main", "public_key": user.public_key}
        made = await cluster.clients.ask("POST", "projects/web/ssh-sessions", asked)
        assert made.status == 201, made
        id_ = made.json["id"]

        async def place() -> Any:
            return (await cluster.clients.get(f"workloads/{id_}"))["ssh"]

        return cls(cluster, id_, user, await until(place, "the session is open"))

    def directly(self, command: str) -> contextlib.AbstractAsyncContextManager[Client]:
        place = self.place
        user = self.user.directly(place["host"], place["port"], place["host_key"])
        return running(self.cluster, *user.command("ssh", user.target, command))

    def through(self, node: Node, command: str) -> contextlib.AbstractAsyncContextManager[Client]:
        proxy = " ".join(boxsched(self.cluster, node, "--proxy", self.id))
        user = self.user.through(proxy, self.place["host_key"])
        return running(self.cluster, *user.command("ssh", user.target, command))

    async def entered_again(self, node: Node) -> None:
        """Enter it through this node as soon as its worker has come back."""

        async def look() -> bool:
            async with self.through(node, "echo again") as client:
                out, _ = await client.process.communicate()
                return out == b"again\n"

        await until(look, "the session is entered again")


async def ended_by_itself(cluster: Cluster, session: str) -> None:
    job = await cluster.until_job(session, "finished")
    assert (job["result"], job["attempt"]) == ("passed", 1), job
    await cluster.is_whole()


@pytest.mark.parametrize("which", ["the worker's node", "a node that relays"])
async def test_a_node_is_killed_and_the_command_says_so_and_the_session_ends(
    cluster: Cluster, which: str
) -> None:
    """Its only connection is lost, so it ends 5 s later, and its Box is free."""
    await cluster.add_nodes(2)
    await cluster.put_project()
    await cluster.add_worker(1, "--ssh-address", "none")
    near, far = await near_and_far(cluster)
    killed = near if which == "the worker's node" else far
    asked = boxsched(cluster, far, "web", "--branch", "main", "--", ENDLESS)
    async with running(cluster, *asked) as client:
        await client.read(BYTES)
        await killed.kill()
        said = (await client.lost()).splitlines()
    why = "the connection broke"
    if killed is near:
        why += " between the service and the node of its worker"
    assert said[-1] == f"{LOST}w1: {why}", said
    await killed.start()
    await ended_by_itself(cluster, "w1")


@needs_openssh
async def test_a_session_goes_on_without_its_node_and_is_entered_through_another(
    cluster: Cluster,
) -> None:
    """Its direct connection is not affected, and keeps it open."""
    await cluster.add_nodes(2)
    await cluster.put_project()
    await cluster.add_worker(1, "--ssh-address", "127.0.0.1")
    near, far = await near_and_far(cluster)
    session = await Session.open(cluster)
    async with session.directly("cat") as direct:
        assert await direct.echo(b"before\n") == b"before\n"
        async with session.through(near, ENDLESS) as one, session.through(far, ENDLESS) as other:
            await asyncio.gather(one.read(BYTES), other.read(BYTES))
            await near.kill()
            said = await asyncio.gather(one.lost(), other.lost())
        assert f"{LOST}{session.id}: the connection broke\n" in said[0]
        assert f"{LOST}{session.id}: the connection broke between the service" in said[1]
        await session.entered_again(far)
        assert await direct.echo(b"after\n") == b"after\n"
    await near.start()
    await ended_by_itself(cluster, session.id)


@needs_openssh
async def test_a_frozen_worker_loses_its_tunnels_and_nothing_else(cluster: Cluster) -> None:
    """The processes of its jobs run on. After it, the session is entered again."""
    await cluster.add_nodes(2)
    await cluster.put_project(cluster.job_record.job("j", 1.0))
    worker: Worker = await cluster.add_worker(2, "--ssh-address", "127.0.0.1")
    _, far = await near_and_far(cluster)
    session = await Session.open(cluster)
    build = await cluster.clients.submit("build", "projects/web/builds", {"branch": "b"})
    assert build is not None
    async with session.directly("cat") as direct:
        assert await direct.echo(b"before\n") == b"before\n"
        async with session.through(far, ENDLESS) as client:
            await client.read(BYTES)
            await cluster.until_begun(build)
            await worker.freeze()
            said = await client.lost()
        assert f"{LOST}{session.id}: its worker has been silent for 15 s\n" in said
        assert await direct.echo(b"meanwhile\n") == b"meanwhile\n"
        worker.thaw()
        await session.entered_again(far)
        await cluster.until_worker(worker, "connected")
        assert await direct.echo(b"after\n") == b"after\n"
    job = await cluster.until_job(build, "finished")
    assert (job["result"], job["attempt"]) == ("passed", 1)
    await ended_by_itself(cluster, session.id)
