"""Random faults, some at the same time; every process that ended is restarted at once."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import attrs

from tests.bus.redis_server import Server
from tests.faults.cluster import Cluster
from tests.faults.members import Node
from tests.faults.postgres import Postgres
from tests.faults.program import Program
from tests.faults.proxy import Proxy
from tests.faults.waiting import until

FREEZE_SECONDS = (1.0, 4.0)
BLACKHOLE_SECONDS = (0.3, 2.5)


@attrs.frozen
class Fault:
    """One kind of fault and its possible targets; when ``strike`` returns, the fault is healed."""

    kind: str
    targets: Sequence[object]
    strike: Callable[[object], Awaitable[None]]


class RandomFaults:
    """Draws the kind first, then a target among those without a fault.

    ``calm`` waits between two faults.
    """

    def __init__(
        self,
        cluster: Cluster,
        chance: random.Random,
        faults: Sequence[Fault],
        calm: Callable[[], Awaitable[None]],
    ) -> None:
        self.done: Counter[str] = Counter()
        self.ended_alone: list[str] = []  # not because of a fault
        self._cluster = cluster
        self._chance = chance
        self._faults = faults
        self._calm = calm
        self._suffering: set[int] = set()
        self._log = cluster.folder / "random_faults.log"  # for people, when a test fails

    async def run(self, over: Callable[[], bool]) -> None:
        """At the end everything is healed, and every node serves."""
        async with asyncio.TaskGroup() as group:
            while not over():
                await self._calm()
                await self._raise_the_fallen()
                fault = self._chance.choice(self._faults)
                if targets := [one for one in fault.targets if id(one) not in self._suffering]:
                    target = self._chance.choice(targets)
                    self._suffering.add(id(target))
                    self.done[fault.kind] += 1
                    group.create_task(self._strike(fault, target))
        await until(self._all_serve, "every node serves after the faults")

    async def _strike(self, fault: Fault, target: object) -> None:
        name = getattr(target, "name", "")
        with self._log.open("a") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {fault.kind} {name}\n")
        await fault.strike(target)
        self._suffering.discard(id(target))

    async def _all_serve(self) -> bool:
        await self._raise_the_fallen()
        return all(node.has_said("listening on ") for node in self._cluster.nodes)

    async def _raise_the_fallen(self) -> None:
        for program in self._cluster.programs:
            if not program.runs and id(program) not in self._suffering:
                self.ended_alone.append(f"{program.name} {program.standing}")
                await program.spawn()


def kills(cluster: Cluster, redis: Server) -> list[Fault]:
    async def kill(target: object) -> None:
        assert isinstance(target, Program)
        await target.kill()
        await target.spawn()

    async def kill_server(target: object) -> None:
        assert isinstance(target, Server | Postgres)
        await asyncio.to_thread(target.kill)
        await asyncio.to_thread(target.start)

    return [
        Fault("kill -9 of a node", cluster.nodes, kill),
        Fault("kill -9 of a worker", cluster.workers, kill),
        Fault("kill -9 of PostgreSQL", [cluster.postgres], kill_server),
        Fault("kill -9 of Redis", [redis], kill_server),
    ]


def freezes(cluster: Cluster, chance: random.Random) -> list[Fault]:
    async def freeze(target: object) -> None:
        assert isinstance(target, Node)
        target.signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(*FREEZE_SECONDS))
        target.thaw()

    return [Fault("SIGSTOP of a node", cluster.nodes, freeze)]


def cuts(cluster: Cluster, to_nodes: Sequence[Proxy], chance: random.Random) -> list[Fault]:
    """Connections to PostgreSQL, to Redis, and to the nodes, including the workers'."""

    async def reset(target: object) -> None:
        assert isinstance(target, Proxy)
        await target.reset()

    async def blackhole(target: object) -> None:
        assert isinstance(target, Proxy)
        await target.blackhole()
        await asyncio.sleep(chance.uniform(*BLACKHOLE_SECONDS))
        await target.heal()

    ways = {
        "PostgreSQL": [node.database_way for node in cluster.nodes],
        "Redis": [node.to_redis for node in cluster.nodes if node.to_redis is not None],
        "nodes": [*to_nodes, *(way for worker in cluster.workers for way in worker.ways)],
    }
    return [
        fault
        for where, proxies in ways.items()
        for fault in (
            Fault(f"reset of a way to {where}", proxies, reset),
            Fault(f"black hole on a way to {where}", proxies, blackhole),
        )
    ]
