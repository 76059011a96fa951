"""Measure how long workloads spend in each stage, for /metrics and ``boxsched bench``."""

from collections.abc import Callable, Mapping, Sequence

from boxsched.model import WorkloadId

STAGES: Mapping[str, str] = {
    "submit": "a submission, until it is durable",
    "inbox": "a durable submission, until the leader processes it",
    "queue": "a registered workload, until it is admitted",
    "decide": "the leader's decision",
    "commit": "the commit of the decision",
    "tell": "an assigned job, until its worker receives it",
    "run": "a job, from its start to its end, as its supervisor measured it",
    "report": "a report, until the leader processes it",
}
STORED_AT_MOST = 10_000  # submissions whose time in the inbox is being measured


class Stages:
    """The total seconds that workloads and jobs have spent in each stage on this node.

    ``decide`` and ``commit`` count once for each workload that was admitted in that turn, and once
    for each that finished. ``tell``, ``run`` and ``report`` are of jobs, all others of workloads.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock  # monotonic
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.busy_box_seconds = 0.0
        self._stored: dict[WorkloadId, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] += seconds

    def stored(self, workloads: Sequence[WorkloadId]) -> None:
        """Note that these submissions are durable now."""
        now = self.clock()
        if len(self._stored) < STORED_AT_MOST:
            self._stored.update(dict.fromkeys(workloads, now))

    def taken_up(self, workloads: Sequence[WorkloadId], at: float) -> None:
        """Note when the leader began to register these workloads."""
        for workload in workloads:
            stored = self._stored.pop(workload, None)
            if stored is not None:
                self.seconds["inbox"] += max(0.0, at - stored)
