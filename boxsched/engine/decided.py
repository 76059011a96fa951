"""What a turn has decided, on its way into the store."""

from collections.abc import Sequence

import attrs

from boxsched.engine.direct import Said
from boxsched.engine.entries import Taken
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import Sights
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Batch


@attrs.define
class Decided:
    """What a turn has decided, on its way into the store and behind it."""

    outcomes: Outcomes
    batch: Batch
    taken: Taken
    sights: Sights
    alone: bool  # nothing but the commands was looked at
    said: Sequence[Said]  # reports that were not in the inbox; their workers wait
    began: float  # by the monotonic clock
    seconds: float = 0.0  # that it took to decide
    may_be_there: bool = False  # it was sent, and the answer did not come
    committed: bool = False
    level: Sequence[Assignment] | None = None  # of the in-process worker, behind the batch
