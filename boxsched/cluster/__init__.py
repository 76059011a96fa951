"""Several nodes with one database: which node leads a shard, and how nodes notify each other.

Theory of operation
-------------------

Every node answers every request: it stores what it accepts, together with a command in the inbox of
the shard. One node at a time *leads* a shard: its engine reads the inbox, decides, and commits. Two
mechanisms decide which node leads:

* The *fence* makes it safe. Each leadership has a number, the epoch, in the shard's row. Each
  transaction of an engine begins with an update of that row, which matches no row if the epoch or
  the batch differs. A new leader raises the epoch first. So a former leader that was suspended or
  disconnected, or has not noticed that it lost the lead, cannot write any more.
* The *lock* makes it quick. One session of each node (``lock_session``) holds PostgreSQL's advisory
  locks of the shards that the node leads. A node that sees a free lock takes it, so that a shard
  has a new leader within 0.1 s of a clean end or a crash.

::

      lock free --seen by a ping--> taken: epoch raised, shard loaded --> leads
          ^                                                                |
          '-- released, or session ended <-- the running turn ends <-------+-- handed over, or ends
                                                                           +-- session lost
                                                                           '-- no longer trusted

The *ping* is the query that tries the locks; a thread sends it ten times a second. A leader
*trusts* its locks for 2.5 s from the start of the last good ping. The server ends a silent session
after 3 s. So a leader stops before its lock can move to another node. The thread stops
pinging when the event loop is blocked, because a leader that decides nothing must not keep the
shard.

What happens when something fails
---------------------------------

===========================  ====================================================================
a leader ends by SIGTERM     its turns end, its session closes; another leads at its next ping
a leader is killed           the kernel closes its session: the same
a leader freezes             the server ends its silent session after 3 s; another leads; when it
                             continues, its trust is over, and the fence refuses a late commit
leader is cut from database  the same; on the leader's side trust ends after 2.5 s
its event loop is blocked    the thread ends the session after 1.5 s
only the lock session dies   its shards are given up at once; the first node to see them leads
the database restarts        all sessions end; one node takes each lock; all load again
a proxy pools transactions   refused on opening; if it is added later: the locks are gone
another cluster's locks      under the same ``--lock-key`` in the same database: refused at the
                             start; if it began while the database was away: waits until it ends
another ``--lock-key``       than this cluster's other nodes have: the same; it may change while no
                             other node runs
the server accepts no writes   a standby, or set to read-only: like a lost session; of several hosts
                             in the URL, the one that accepts writes is used
another server takes over    noticed within 5 s, or when the old one is gone: all sessions of a node
                             move to the newest server; an old primary that comes back is refused
                             (``store.postgres.servers``)
commits are slow             nothing: the ping does not wait for commits, and the engine sends
                             the same batch until the store returns a result
two nodes with one name      the second is refused, because a node's name is also a lock
Redis is away                nodes poll the inbox, the history and their workers' levels
===========================  ====================================================================

A node that does not lead a shard explains and counts from the shard's rows (``mirror``). The result
is the same, because the core uses only what the store contains.

Each organization has a shard, so one core does not have to serve all of them. Any node takes a free
shard. Fair shares only decide which node hands over a shard
(``shares``).
"""
