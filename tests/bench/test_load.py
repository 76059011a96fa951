"""Where a load goes, when it ends, and the nodes' counters of it."""

import asyncio
import contextlib

import pytest

from boxsched.bench.counted import Counted, read_counted, refuse_uncounted
from boxsched.bench.load import BenchTarget, Load
from boxsched.bench.service import Plan
from boxsched.errors import Invalid, StoreAway

METRICS = """\
# HELP boxsched_turns_total Turns of the engine, each one commit
boxsched_turns_total 40.0
boxsched_workloads_finished_total 1.2e+03
boxsched_store_round_trips_total{procedure="commit"} 41.0
boxsched_store_round_trips_total{procedure="inbox"} 50.0
boxsched_store_round_trips_total{procedure="submit"} 1000.0
boxsched_stage_seconds_total{stage="commit"} 2.5
boxsched_busy_box_seconds_total 90.0
boxsched_loop_hold_seconds 0.012
process_resident_memory_bytes 5.24288e+07
"""


@contextlib.asynccontextmanager
async def listening(status="201 Created"):
    """A server that gives this answer to everything and records the bodies."""
    bodies = []

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield BenchTarget(f"http://127.0.0.1:{port}", "token"), bodies
    server.close()


@pytest.mark.parametrize(("count", "connections"), [(1, 8), (100, 8), (100, 1)])
async def test_a_load_ends_with_its_bodies_each_sent_once(count, connections):
    async with listening() as (target, bodies):
        load = Load("/builds", iter([b"%d" % n for n in range(count)]))
        await load.run([target], connections)
    assert sorted(map(int, bodies)) == list(range(count))
    assert len(load.seconds) == count


async def test_a_load_is_spread_over_the_nodes():
    async with listening() as (one, at_one), listening() as (other, at_other):
        load = Load("/builds", iter([b"x"] * 100))
        await load.run([one, other], 4)
    assert len(at_one) + len(at_other) == 100
    assert at_one and at_other


async def test_a_refusal_ends_the_load():
    async with listening("503 Service Unavailable") as (target, _):
        with pytest.raises(StoreAway, match=r"answered 503: \{\}"):
            await Load("/builds", iter([b"x"] * 100)).run([target], 4)


def test_a_load_has_a_number_of_builds_or_a_duration():
    counted = list(Plan(builds=3, seconds=0, jobs=1, concurrency=64).bodies("r"))
    assert counted == [b'{"branch":"load-r-%07d"}' % n for n in range(3)]
    timed = list(Plan(builds=None, seconds=0.05, jobs=1, concurrency=64).bodies("r"))
    assert len(set(timed)) == len(timed) >= 1


def test_the_counters_of_a_node_are_read():
    assert read_counted(METRICS) == Counted(
        finished=1200,
        batches=40,
        round_trips=91,
        resident_mib=50,
        busy_box_seconds=90,
        loop_hold_seconds=0.012,
        stages={"commit": 2.5},
    )
    with pytest.raises(StoreAway, match="/metrics"):
        read_counted("")


class View:
    """A node's client that only lists nodes."""

    def __init__(self, me, leads):
        self.me, self.leads = me, leads

    async def nodes(self):
        from boxsched.client import Node

        return [
            Node(
                id=name,
                name=name,
                url=f"http://{name}",
                version="1",
                alive=True,
                shards=(1,) if name == self.leads else (),
                me=name == self.me,
                started_at=None,
            )
            for name in ("a", "b")
        ]


async def test_without_measurements_of_the_leader_its_url_is_requested():
    await refuse_uncounted([View("a", "b"), View("b", "b")])
    with pytest.raises(Invalid, match="add --url http://b"):
        await refuse_uncounted([View("a", "b")])
