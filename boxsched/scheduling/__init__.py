"""The pure core: which workload goes on next, and on which Boxes.

It has no clock, no chance, no I/O, and imports attrs, sortedcontainers and the model alone. Events
go in with the time at which they happened; decisions come out, as values. The service, the
simulator, the forecast and every explanation run this one core.

A workload passes three phases:

1. Ordering (``ordering``). A lane is a linked list; who is first in it may leave. A new build first
   cancels or stops earlier ones of its lane, as its cancellation strategy says.
2. Admission (``queue``, ``admission``). The queue is grouped by shape: workloads that ask the same,
   with the same expected durations, time limits and project limit, are interchangeable for the
   gate. A pass looks at the heads of the shapes in queue order; the first that does not fit is the
   head of the queue, and the policy says what those behind it may do. Under ``backfill`` it gets
   the earliest time at which enough Boxes will be free; later workloads may start if they do not
   delay it. A job that runs longer than expected is taken to run to its time limit. The first such
   time is the head's promise. A head that waits far beyond its promise is guarded: later workloads
   are then judged by their time limits.
3. Assignment (``boxes``). Each job gets a Box of its type, warm ones first, else the longest free.

Boxes come and go (``fleet``). Those of a worker that is not heard from exist, and are never free; a
job whose worker is lost comes before all that has no Box yet (``lost``).

One instant is: all jobs that end, what was asked in its order (``apply``), then ``settle``. What an
event costs grows with the shapes and Boxes, never with what waits.

``why`` answers for a waiting workload with the very verdicts of a pass, so that an explanation
cannot differ from what the core does. ``forecast`` runs a copy of the core ahead in virtual time.
"""

from boxsched.scheduling.interface import JobAsk, QueueRules
from boxsched.scheduling.scheduler import Scheduler

__all__ = ["JobAsk", "QueueRules", "Scheduler"]
