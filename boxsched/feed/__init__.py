"""The live history: every event to every reader, in order and without a gap, on every node.

The table of events is the truth; an event's place in it is shard.batch.n. A reader is behind one
place in each shard (``EventCursor``), and its list is, shard by shard, what the table has behind
them. Whatever else happens here only saves looking there.

What a node hears of a shard's batches, each by its number:

* ``publish``: its own engine committed one (it leads the shard). Certain, at once, with events.
* the follow task (``EventFeed.run``) asks for all shards' last batch numbers, in one small query,
  while there are readers. What was not published here is read from the table, once for all readers.
* ``heard``: the bus says that another node committed one. It only makes the follow task ask sooner:
  so a hint that is lost, late, doubled, out of its order or forged changes nothing else.

Each reader (``Subscription``) counts by itself up to which batch of a shard it has, or will get,
everything: given, in its short queue, or in its next look at the table. It looks there when it
begins behind the last event, when a number is missing, and when its queue was too long and was
dropped. Memory is bounded, and slow readers stay connected.

Behind a failover that lost commits, or a restored backup, a shard's batches go on a million later.
Then every reader is ended. A reader whose last event is not in the table is told to start again; so
is one that is behind a place whose events are deleted because they are old.
"""

from boxsched.feed.cursor import BEGINNING, EventCursor
from boxsched.feed.feed import EventFeed
from boxsched.feed.subscription import Subscription

__all__ = ["BEGINNING", "EventCursor", "EventFeed", "Subscription"]
