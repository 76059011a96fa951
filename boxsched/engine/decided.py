"""The decisions of a turn until they are committed."""

from collections.abc import Sequence

import attrs

from boxsched.engine.direct import WaitingReports
from boxsched.engine.entries import Taken
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import Sights
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Batch


@attrs.define
class Decided:
    """The decisions of a turn, before and after their commit."""

    outcomes: Outcomes
    batch: Batch
    taken: Taken
    sights: Sights
    alone: bool  # whether only the commands were processed
    said: Sequence[WaitingReports]  # reports from memory; their workers wait for the answer
    began: float  # start of the turn, by the monotonic clock
    seconds: float = 0.0  # how long deciding took
    may_be_there: bool = False  # it was sent, but no answer has arrived
    committed: bool = False
    level: Sequence[Assignment] | None = None  # the in-process worker's assignments after the batch
