"""The engine of a shard: inbox -> core -> one commit -> act.

One task (``engine.Engine``) leads the shard. In a turn it

1. reads the inbox (``boxsched.inbox``): submissions, stops, reports of workers, Boxes, settings;
2. applies all of it to the core as one instant (``turn.Turn``), noting in its ``books.Books`` what
   changes for workloads, jobs and Boxes, and what happened as events;
3. commits all of that in one fenced transaction that also deletes the inbox entries;
4. acts: publishes the events, and tells the workers concerned that there is something to look up.

While a commit is under way commands gather in the inbox, so the next turn takes them all: idle, one
command is one commit; busy, hundreds share one. Nothing is shown or started before the commit.

The books and the core are an index of the store. If a commit is refused, or its outcome is
unknown, both are dropped and loaded again before anything else is decided; the epoch that this
raises fences whatever an earlier life of this engine might still try. A crash at any point leaves
either the inbox entry or its whole effect.
"""
