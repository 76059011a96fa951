"""The pure core: which workload starts next, and on which Boxes.

The core has no clock, no randomness and no I/O; it imports only attrs, sortedcontainers and the
model. Its input is events with the times at which they happened; its output is decisions, as
values. The service, the simulator, the forecast and every explanation use the same core.

A workload passes three phases:

1. Ordering (``ordering``). A lane is a linked list; its first workload may leave this phase. A new
   build first cancels or stops earlier builds of its lane, according to its cancellation strategy.
2. Admission (``queue``, ``admission``, ``reservation``). The queue is grouped by shape: workloads
   that ask for the same Boxes, with the same expected durations, time limits and project limit, are
   interchangeable. A pass judges the first workload of each shape, in queue order. The first that
   does not fit is the head of the queue; the policy decides what may start behind it. Under
   ``backfill`` the head gets a reservation: the earliest time at which enough Boxes will be free.
   Later workloads may start if they do not delay it. A job that runs longer than expected is
   assumed to run to its time limit. The first reserved time is the head's promise. A head that
   waits far beyond its promise is guarded: later workloads are then judged by their time limits.
3. Assignment (``boxes``, ``running``). Each job gets a Box of its type: a warm one, else the one
   that has been free longest.

Boxes are added and removed (``box_types``). The Boxes of a silent worker exist but are never free.
A job whose worker is lost gets a Box before any waiting workload does (``lost``).

One instant: all jobs that end, then all requests in their order (``apply``), then ``settle``. The
cost of an event grows with the number of shapes and Boxes, not with the number of waiting
workloads.

``why`` explains a waiting workload by the verdicts of a pass, so an explanation cannot differ from
what the core does. ``forecast`` runs a copy of the core in virtual time. ``consistency`` checks
that the core's structures agree.
"""

from boxsched.scheduling.interface import JobAsk, QueueRules
from boxsched.scheduling.scheduler import Scheduler

__all__ = ["JobAsk", "QueueRules", "Scheduler"]
