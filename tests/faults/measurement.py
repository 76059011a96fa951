"""Measurements of clients and Boxes over a period, to compare before, during and after a fault."""

import asyncio
import statistics
import time

import attrs

from tests.faults.clients import Clients
from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure


@attrs.frozen
class Measurement:
    answer_p99: float  # seconds
    finished: float  # workloads a second
    ends_after: float  # median seconds from a submission to its end

    def show(self, figure: Figure, of: str) -> None:
        figure(f"{of}: p99 of 201, s", self.answer_p99)
        figure(f"{of}: jobs finished a second", self.finished)
        figure(f"{of}: median of submission to end, s", self.ends_after)

    def compare(self, figure: Figure, what: str, other: "Measurement") -> None:
        figure(f"{what}: p99 of 201", self.answer_p99 / other.answer_p99)
        figure(f"{what}: jobs finished", self.finished / other.finished)


async def measure(cluster: Cluster, clients: Clients, seconds: float) -> Measurement:
    """Measure from now on, for this time, under a load that continues."""
    answers = clients.figures.answer_seconds
    first, began = len(answers), time.time()
    await asyncio.sleep(seconds)
    ended = time.time()
    ((finished, ends_after),) = await cluster.sql(
        "SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY finished_at - created_at)"
        "  FROM workload WHERE result = 'passed' AND finished_at BETWEEN %s AND %s",
        began,
        ended,
    )
    return Measurement(
        statistics.quantiles(answers[first:], n=100)[98],
        finished / (ended - began),
        ends_after or seconds,
    )
