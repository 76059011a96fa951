"""The engine of a shard: inbox -> core -> one commit -> act.

One task (``engine.Engine``) leads the shard. In a turn it

1. reads the inbox (``protocol.inbox``): submissions, stops, reports of workers, Boxes, settings;
   and takes the reports that workers of its own node passed to it in memory (``direct``);
2. applies all of it to the core as one instant (``turn.run``); ``outcomes.Outcomes`` updates the
   workloads, jobs and Boxes in the ``books.Books``, and records what happened as events;
3. commits all of that in one fenced transaction that also deletes the inbox entries;
4. acts: publishes the events, and notifies the affected workers, which look up their jobs.

During a commit, commands collect in the inbox, and the next turn takes them all. So an idle engine
commits single commands, a busy one hundreds at once. Nothing is shown or started before the commit.

The books and the core are an index of the store. If a commit failed or its answer was lost, it is
repeated with the same batch until the store answers; the fence accepts the batch once. So the
engine works at the store's speed, with larger batches when the store is slow. Only if the fence
refuses a batch are books and core dropped and loaded again, under a new epoch. A crash at any point
leaves either the inbox entry or its whole effect.

The ``reason`` of a workload or job comes from ``causes``: who asked, or what failed first.
``resolving`` applies an operator's decision about a job on an absent worker.

Stored times never end a job: ``limits`` uses only seconds that this node has measured.
"""
