"""The engine of a shard: inbox -> core -> one commit -> act.

One task (``engine.Engine``) leads the shard. In a turn it

1. reads the inbox (``protocol.inbox``): submissions, stops, reports of workers, Boxes, settings;
   and takes the reports that workers of its own node passed to it in memory (``direct``);
2. applies all of it to the core as one instant (``turn.run``); ``outcomes.Outcomes`` updates the
   workloads, jobs and Boxes in the ``books.Books``, and records what happened as events;
3. commits all of that in one fenced transaction that also deletes the inbox entries;
4. acts: publishes the events, and tells the affected workers to look up their jobs.

During a commit, commands gather in the inbox, and the next turn takes them all: an idle engine
commits each command, a busy one hundreds at once. Nothing is shown or started before the commit.

The books and the core are an index of the store. A commit that failed, or whose answer did not
come, is repeated with the same batch until the store answers; the fence accepts the batch once. So
the engine works at the store's speed, with batches that grow. Only if the fence refuses a batch
are books and core dropped and loaded again, under a new epoch. A crash at any point leaves either
the inbox entry or its whole effect.

The ``reason`` of a workload or job comes from ``causes``: who asked, or what failed first. An
operator's decision on a job whose worker is away is applied by ``resolving``.

No time that is stored ends a job: ``limits`` counts the seconds that this node has measured.
"""
