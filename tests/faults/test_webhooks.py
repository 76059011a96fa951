"""Deliveries of code hosts that are repeated, at two nodes, with kill -9: each is built once
(F26)."""

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from boxsched.secrets.ring import new_key
from boxsched.store.operating.check import check
from tests.faults.cluster import Cluster, closing_cluster
from tests.faults.members import Node
from tests.faults.postgres import Postgres
from tests.faults.service import Service
from tests.faults.waiting import until
from tests.service.code_hosts import SECRET, push, signed

KILLS = int(os.environ.get("BOXSCHED_TEST_KILLS", "4"))
PUSHES = 30
JOBS = [{"name": "test", "commands": ["true"]}]
WAIT = aiohttp.ClientTimeout(total=20)
NO_ANSWER = (aiohttp.ClientError, ConnectionError, TimeoutError)


def pushes(count: int = PUSHES) -> list[bytes]:
    return [json.dumps(push(f"topic/{number % 5}")).encode() for number in range(count)]


async def deliver(client: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, Any]:
    """Return status and answer; each try has another delivery id, as a replayed body may have."""
    headers = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": os.urandom(8).hex(),
        **signed("github", body),
    }
    where = f"{url}/webhooks/github/web"
    async with client.post(where, data=body, headers=headers, timeout=WAIT) as answer:
        return answer.status, await answer.json()


async def tried(client: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, Any] | None:
    """Return None if there is no answer."""
    with contextlib.suppress(*NO_ANSWER):
        return await deliver(client, url, body)
    return None


@pytest.fixture
async def pair(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two nodes with one key, without Boxes."""
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(new_key())
    with postgres.database() as url:
        async with closing_cluster(Cluster(tmp_path, postgres, url)) as cluster:
            await cluster.add_nodes(2, "--secrets-key-file", str(key))
            await cluster.put_project(*JOBS, webhook_secret=SECRET)
            await cluster.worker_token()  # while both nodes can be asked
            yield cluster


async def built(cluster: Cluster) -> int:
    """Return how many bodies were carried out."""
    ((count,),) = await cluster.sql(
        "SELECT count(DISTINCT body_sha256) FROM delivery WHERE result = 'created'"
    )
    return int(count)


async def test_the_same_delivery_at_two_nodes_at_once_is_built_once(pair: Cluster) -> None:
    async with aiohttp.ClientSession() as client:
        for body in pushes():
            answers = await asyncio.gather(
                *(deliver(client, node.url, body) for node in pair.nodes * 3)
            )
            assert {status for status, _ in answers} == {200}
            results = Counter(answer["result"] for _, answer in answers)
            assert results == {"created": 1, "duplicate": len(answers) - 1}
            assert len({tuple(answer["workloads"]) for _, answer in answers}) == 1
    ((count,),) = await pair.sql("SELECT count(*) FROM workload")
    assert count == PUSHES


async def test_a_build_of_a_killed_leader_is_made_once(pair: Cluster) -> None:
    """Some deliveries are answered, some are stored without an answer, and some are neither."""
    leader = await pair.leader()
    (other,) = [node for node in pair.nodes if node is not leader]
    bodies = pushes(3 * PUSHES)
    answered: dict[bytes, list[str]] = {}

    async def send(client: aiohttp.ClientSession, some: list[bytes]) -> None:
        for body in some:
            reply = await tried(client, leader.url, body)
            if reply is not None:
                assert reply[0] == 200, reply
                answered[body] = reply[1]["workloads"]
            if len(answered) >= PUSHES and leader.runs:
                await leader.kill()

    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(send(client, bodies[n::6]) for n in range(6)))
        assert PUSHES <= len(answered) < len(bodies)
        for body in bodies:
            reply = await until_taken(client, other, body)
            if body in answered:
                assert reply == {"result": "duplicate", "workloads": answered[body]}
            else:
                assert reply["result"] in ("created", "duplicate")
    ids = [id_ for (id_,) in await pair.sql("SELECT id FROM workload")]
    assert len(ids) == len(bodies)
    assert await built(pair) == len(bodies)
    await pair.add_worker(4, "--box-driver", "none", nodes=[other])
    await pair.until_idle()
    ended = await pair.sql("SELECT result, count(*) FROM workload GROUP BY result")
    assert ended == [("passed", len(bodies))]


async def until_taken(client: aiohttp.ClientSession, node: Node, body: bytes) -> Any:
    async def again() -> Any:
        reply = await tried(client, node.url, body)
        return reply[1] if reply is not None and reply[0] == 200 else None

    return await until(again, f"{node.name} takes it")


async def test_while_the_database_is_away_a_host_is_told_to_send_it_again(pair: Cluster) -> None:
    node = pair.nodes[0]
    [known, body] = pushes(2)
    async with aiohttp.ClientSession() as client:
        assert (await deliver(client, node.url, known))[1]["result"] == "created"
        await node.database_way.blackhole()
        for one in (known, body):
            status, answer = await deliver(client, node.url, one)
            assert status == 503
            assert "127.0.0.1" not in str(answer)  # where the database is
        await node.database_way.heal()
        answer = await until_taken(client, node, body)
        # A delivery without an answer may have been stored, and is then a repetition.
        assert answer["result"] in ("created", "duplicate")
        assert (await deliver(client, node.url, known))[1]["result"] == "duplicate"
    assert await built(pair) == 2


async def test_a_service_that_is_killed_builds_each_delivery_once(tmp_path: Path) -> None:
    chance = random.Random(26)
    service = Service(tmp_path / "data", "--boxes", "4", "--box-driver", "none")
    bodies = pushes(40 * KILLS)
    left = list(bodies)
    answered: dict[bytes, list[str]] = {}
    service.start()
    await service.put_project("web", jobs=JOBS, webhook_secret=SECRET)

    async def send(client: aiohttp.ClientSession, until_killed: asyncio.Event) -> None:
        while left and not until_killed.is_set():
            body = left.pop()
            reply = await tried(client, service.url, body)
            if reply is None:
                left.append(body)  # the host sends it again
                return
            assert reply[0] == 200, reply
            answered.setdefault(body, reply[1]["workloads"])
            assert answered[body] == reply[1]["workloads"]

    async with aiohttp.ClientSession() as client:
        for _ in range(KILLS):
            killed = asyncio.Event()
            clients = [asyncio.create_task(send(client, killed)) for _ in range(4)]
            await asyncio.sleep(chance.random() * 0.4)  # the moment is random, not a wait
            service.kill()
            killed.set()
            await asyncio.gather(*clients)
            left += [body for body in answered if chance.random() < 0.3]  # and once more
            service.start()
        await asyncio.gather(*(send(client, asyncio.Event()) for _ in range(4)))
    assert set(answered) == set(bodies)
    ids = [id_ for workloads in answered.values() for id_ in workloads]
    assert len(ids) == len(set(ids)) == len(bodies)
    await service.until_idle()
    seen = await listed(service)
    assert {one["id"] for one in seen} == set(ids)
    service.stop()
    assert await check(f"sqlite:///{tmp_path / 'data' / 'boxsched.sqlite'}") == []


async def listed(service: Service) -> list[Any]:
    found: list[Any] = []
    cursor = ""
    while True:
        page = await service.get(f"workloads?limit=200{cursor}")
        found += page["workloads"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
