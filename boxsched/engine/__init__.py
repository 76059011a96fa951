"""The engine of a shard: inbox -> core -> one commit -> act.

One task (``engine.Engine``) leads the shard. In a turn it

1. reads the inbox (``protocol.inbox``): submissions, stops, reports of workers, Boxes, settings;
   and takes the reports that workers of its own node told it in memory (``direct``);
2. applies all of it to the core as one instant (``turn.run``); ``outcomes.Outcomes`` notes in the
   ``books.Books`` what changes for workloads, jobs and Boxes, and what happened as events;
3. commits all of that in one fenced transaction that also deletes the inbox entries;
4. acts: publishes the events, and tells the workers concerned that there is something to look up.

While a commit is under way commands gather in the inbox, so the next turn takes them all: idle, one
command is one commit; busy, hundreds share one. Nothing is shown or started before the commit.

The books and the core are an index of the store. A commit that failed, or whose answer did not
come, is sent again, the same batch, until the store says what came of it: the fence lets it in
once. So the engine goes on at the store's speed, with batches that grow. Only where the fence
refuses a batch are both dropped and loaded again, under a new epoch. A crash at any point leaves
either the inbox entry or its whole effect.

The ``reason`` of a workload or job comes from ``causes``: who asked, or what failed first. What a
person says of a job whose worker is away is applied by ``resolving``.

No time in the store ends a job: ``limits`` counts what this node has seen pass.
"""
