"""The event feed: every reader on every node gets every event, in order and without a gap.

The table of events is the truth; an event's place in it is shard.batch.n. A reader has one place in
each shard (``EventCursor``) and gets all later events of the table. Everything else here only saves
queries of the table.

A node learns of a shard's new batches, by their numbers, in three ways:

* ``publish``: its own engine committed a batch, because the node leads the shard. This is certain,
  immediate, and includes the events.
* The follow task (``EventFeed.run``) polls the last batch numbers of all shards with one small
  query while there are readers. Batches that were not published here are read from the table, once
  for all readers.
* ``heard``: the bus reports that another node committed a batch. It only makes the follow task poll
  sooner, so lost, late, duplicate, reordered or forged hints do no harm.

Each reader (``Subscription``) records up to which batch of a shard it is complete: events were
delivered, are in its short queue, or come with its next read of the table. It reads the table when
it starts before the last event, when a batch number is missing, and when its queue became too long
and was dropped. Memory is limited, and slow readers stay connected.

After a failover that lost commits, or a restored backup, a shard's batch numbers continue a million
higher. Then every reader is ended. A reader must start again if its last event is not in the table,
or if the next events were deleted because they are old.
"""

from boxsched.feed.cursor import BEGINNING, EventCursor
from boxsched.feed.feed import EventFeed
from boxsched.feed.subscription import Subscription

__all__ = ["BEGINNING", "EventCursor", "EventFeed", "Subscription"]
