"""Several nodes and one database: who leads, and how one hears of the other.

Theory of operation
-------------------

Every node answers every request; what it takes it makes durable, and puts a command into the inbox
of the shard concerned. One node at a time *leads* a shard: its engine empties the inbox, decides,
and commits. Two things say who leads, and they are not of equal weight:

* The *fence* is what is safe. A leadership has a number, the epoch, in the shard's row; each
  transaction of an engine begins with an update of that row that the schema refuses where epoch or
  batch are others. Whoever leads later has raised the epoch; so one that slept, was cut off, or has
  not noticed yet writes nothing more, whatever it believes.
* The *lock* is what is quick. PostgreSQL's advisory locks, one a shard, are held by one session of
  the node (``lock_session``). Whoever sees a free one takes it, so that another leads within a
  tenth of a second of a clean end or a crash.

::

      lock free --seen by a ping--> taken: epoch raised, shard loaded --> leads
          ^                                                                |
          '-- released, or session ended <-- the turn under way ends <-----+-- handed over, or ends
                                                                           +-- session lost
                                                                           '-- trusted no more

A leader *trusts* its locks from the start of the last good ping on, for half a second less than the
server waits before it ends a silent session: so it stops by itself before a lock can move. The ping
is the query that tries locks, in a thread; it stops where the event loop makes no progress, as a
leader that cannot decide must not keep others from it.

What happens when something goes
--------------------------------

===========================  ====================================================================
a leader ends by SIGTERM     its turns end, its session closes; another leads at its next ping
a leader is killed           the kernel closes its session: the same
a leader freezes             the server ends its silent session after 3 s; another leads; when it
                             wakes, its trust is over, and the fence refuses what was under way
leader and database are cut  the same; on the leader's side trust ends after 2.5 s
its loop stands still        the thread ends the session after 1.5 s
the lock session alone dies  its shards are given up at once, and taken anew by whoever is first
the database restarts        all sessions end; one node takes each lock; all load anew
a proxy pools transactions   refused on opening; where it comes later: the locks are seen to be gone
another cluster's locks      under the same ``--lock-key`` in the same database: refused at the
                             start; one that came while the database was away is waited out
another ``--lock-key``       than this cluster's other nodes have: the same; it may be another when
                             none of them is there
the server takes no writes   a standby, or set to be read-only: as a lost session; of several
                             hosts in the URL the one that takes writes is found
another server takes over    noticed within 5 s, or when the old one is gone: all sessions of a node
                             go to the newest server, this one too; an old primary that comes back
                             is refused (``store.postgres_servers``)
commits are slow             nothing: the ping waits for no commit, and the engine sends the same
                             batch until the store says what came of it
two nodes of one name        the second is refused: a node's name is a lock, too
Redis is away                nodes poll the inbox, the history and their workers' levels
===========================  ====================================================================

A node that does not lead a shard explains and counts from its rows (``mirror``), which says the
same: the core decides and explains from what the store holds, and from nothing else.

Shards are for more organizations than one core can serve; each has one at most. A free shard is
taken by any node, and fair shares only decide who hands one over (``shares``).
"""
