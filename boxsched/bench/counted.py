"""The sums of the nodes' own counters."""

import asyncio
import re
from collections.abc import Mapping, Sequence

import attrs

from boxsched.client import Client
from boxsched.errors import Invalid, StoreAway

_STAGE = re.compile(r'^boxsched_stage_seconds_total\{stage="(\w+)"\} (\S+)$', re.MULTILINE)


@attrs.frozen
class Counted:
    """The sums over all nodes; memory is that of the largest."""

    finished: float  # workloads
    batches: float
    round_trips: float  # only of engines, to read the inbox and to commit; 0 on SQLite
    resident_mib: float
    busy_box_seconds: float = 0.0
    loop_hold_seconds: float = 0.0  # the longest of the last one to two minutes
    stages: Mapping[str, float] = attrs.field(factory=dict)  # seconds of all workloads, or jobs


async def counted(clients: Sequence[Client]) -> Counted:
    each = await asyncio.gather(*(_of(client) for client in clients))
    return Counted(
        sum(one.finished for one in each),
        sum(one.batches for one in each),
        sum(one.round_trips for one in each),
        max(one.resident_mib for one in each),
        sum(one.busy_box_seconds for one in each),
        max(one.loop_hold_seconds for one in each),
        {name: sum(one.stages.get(name, 0.0) for one in each) for name in each[0].stages},
    )


async def _of(client: Client) -> Counted:
    return read_counted(await client.metrics())


def read_counted(text: str) -> Counted:
    """Read one node's figures from its /metrics."""
    finished = _figures(text, "boxsched_workloads_finished_total")
    if not finished:
        raise StoreAway("the service's /metrics do not say how many workloads have finished")
    trips = r'boxsched_store_round_trips_total\{procedure="(?:commit|inbox)"\}'
    return Counted(
        sum(finished),
        sum(_figures(text, "boxsched_turns_total")),
        sum(_figures(text, trips)),
        sum(_figures(text, "process_resident_memory_bytes")) / (1 << 20),
        sum(_figures(text, "boxsched_busy_box_seconds_total")),
        max(_figures(text, "boxsched_loop_hold_seconds"), default=0.0),
        {name: float(seconds) for name, seconds in _STAGE.findall(text)},
    )


def _figures(text: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)]


async def refuse_uncounted(clients: Sequence[Client]) -> None:
    """Raise Invalid if another node leads, because the leader counts finished workloads."""
    views = await asyncio.gather(*(client.nodes() for client in clients))
    here = {one.name for view in views for one in view if one.me}
    for one in views[0]:
        if one.alive and one.shards and one.name not in here:
            raise Invalid(f"the leading node {one.name} is not measured: add --url {one.url}")
