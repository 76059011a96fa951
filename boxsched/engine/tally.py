"""Count an engine's committed turns, for ``/metrics`` and ``boxsched bench``."""

import attrs

from boxsched.clock import Clock
from boxsched.engine.decided import Decided
from boxsched.engine.stages import Stages
from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.states import Result


@attrs.define
class Counters:
    """The engine's counters in ``/metrics``."""

    turns: int = 0
    commands: int = 0
    events: int = 0
    admitted: int = 0
    finished: int = 0
    retried: int = 0  # attempts that failed and were tried again in place
    flaky: int = 0  # jobs that passed only then
    loads: int = 0
    fenced: int = 0  # stale writes that the store refused
    set_aside: int = 0  # commands that raised or cannot be decoded
    largest_turn: int = 0
    commit_seconds: float = 0.0


class Tally:
    """Adds to the node's ``counters`` and ``stages``, which all its engines share."""

    def __init__(self, clock: Clock, counters: Counters, stages: Stages) -> None:
        self._clock = clock
        self._counters = counters
        self._stages = stages
        self._busy: tuple[float, int] | None = None  # since when this many Boxes have been in use

    def committed(self, decided: Decided, commit_seconds: float) -> None:
        """Count a turn after its batch was committed."""
        self._count(decided, commit_seconds)
        self._measure(decided, commit_seconds)

    def _count(self, decided: Decided, commit_seconds: float) -> None:
        batch, counters = decided.batch, self._counters
        counters.turns += 1
        counters.commands += len(batch.inbox) + len(decided.said)
        counters.set_aside += len(batch.set_aside)
        counters.events += len(batch.events)
        counters.finished += len(batch.ended)
        counters.admitted += sum(event.type == "workload.started" for event in batch.events)
        counters.retried += sum(event.type == "job.retried" for event in batch.events)
        counters.flaky += sum(
            job.result is Result.PASSED and job.retried is not None for job in batch.jobs
        )
        counters.largest_turn = max(counters.largest_turn, len(batch.inbox))
        counters.commit_seconds += commit_seconds

    def _measure(self, decided: Decided, commit_seconds: float) -> None:
        stages, out = self._stages, decided.outcomes
        submits = [c.workload for c in decided.taken.commands if isinstance(c, inbox.Submit)]
        stages.taken_up([WorkloadId(each) for each in submits], decided.began)
        moved = len(out.queued_seconds) + len(decided.batch.ended)
        stages.add("decide", decided.seconds * moved)
        stages.add("commit", commit_seconds * moved)
        stages.add("queue", sum(out.queued_seconds))
        stages.add("run", out.ran_seconds)
        for each in decided.said:
            stages.add("report", (decided.began - each.at) * each.ends)
        now = self._clock.monotonic()
        if self._busy is not None:
            since, boxes = self._busy
            stages.busy_box_seconds += (now - since) * boxes
        self._busy = now, out.books.core.usage.boxes
