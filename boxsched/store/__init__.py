"""The store: all durable state. This text describes its parts and what each guarantees.

Theory of operation
-------------------

``store.Store`` documents what each call guarantees, with values of ``records`` and ``protocol``. It
is implemented by *procedures* (``steps``): generators that yield statements and receive their rows,
so that they neither wait nor connect. A *driver* runs a procedure in a transaction: SQLite's in a
thread, PostgreSQL's with awaits, through aiopg. The statements are in ``sql/`` as named blocks, one
text for both databases. For PostgreSQL, statements without rows are sent together with the next
statement that has rows, or with COMMIT, so an engine's transaction is one round trip.

Connections. The engine, requests and workers, and reads (lists, histories, logs) have separate
connections (``driver``), so that long reads do not delay the engine. A read is stopped after
READ_SECONDS (``TooLong``).

Writers. Any node writes submissions, commands (inbox), logs, projects, sessions, tokens, and its
workers' connections and beats. Only the shard's leader writes everything else, by ``commit``, with
one transaction for each batch. The transaction begins with the fence: an UPDATE of the shard's row
that the schema refuses if epoch or batch differ. So a former leader that was suspended writes
nothing, and a repeated batch is not written twice. ``raise_epoch`` waits for a running commit,
because both need that row. An event's id is (shard, batch, n), with the batch's own number
(``Batch.batch`` + 1) and n from 1: without gaps, in commit order.

Shards. An organization has a shard of its own and stays in it, and everything that belongs to it
too: projects, workers and workloads by a column, Boxes through their worker. So ``submit`` finds
the shard together with the numbers. A deleted organization keeps its shard, with its history.

The life of a command: ``submit`` stores workload, jobs, key and inbox entry in one transaction;
then the request is answered. The leader's ``commit`` deletes the entry and writes its result.
``load`` leaves out workloads that still have an inbox entry, so a new leader processes each exactly
once. Entries are deleted by their ids, never "up to an id", because ids are not committed in order.

The life of a worker: its ``identity`` identifies it; its name is for people. Each connect increases
its connection number, and calls with an older number (an end, a beat) change nothing. Its
``lost_after`` is the greatest value that it may use: a connect never lowers it, a beat sets it.

Versions. Two program versions may use one database at the same time; ``schema`` says when.

The schema itself refuses: two workloads of a lane that have left phase 1, two jobs on a Box, a
state that contradicts its times or its result, and changes of events. ``check`` finds other
violations.

When things fail
----------------

``outage`` logs StoreAway once, and then about once a minute; callers that try again do not log it.

=========================  ======================================================================
the disk is full, or fails rolled back, StoreAway; the next transaction is tried as usual
a constraint refuses a row ``constraints`` has an answer for each one: the transaction is
                           repeated, or it is an error in boxsched, InvariantRefused
a read takes too long      stopped at its deadline: TooLong
COMMIT itself fails        disk full: StoreAway; else OutcomeUnknown: repeat with the same key, or
                           read ``batch_number``
the caller is cancelled    its transaction is done completely or not at all
kill -9, power loss        WAL with synchronous=FULL: every call that returned is stored, and no
                           transaction is half done
a second process           refused by a lock on the data folder; a crash releases the lock
its rows were moved        refused: a mark next to the file says where they are now (``moved``)
the file is damaged        StoreDamaged, with the file's name
an older copy of the file  refused (StoreBehind) until ``db restored`` (``sqlite.marks``)
an older schema            upgraded on opening, in one transaction
a newer schema             used unchanged, or refused: the schema says which programs may use it
=========================  ======================================================================

In addition, for PostgreSQL:

=========================  ======================================================================
the connection breaks      before COMMIT was sent: StoreAway; else OutcomeUnknown. It is closed,
                           with the idle connections of its pool; the next call connects again
a statement is canceled,   StoreAway, and rolled back; aiopg would raise CancelledError, which
by time or by hand         ends a background loop silently
no answer for 1.7 s        like a broken connection; the server's own limit is a little shorter
COMMIT takes longer        it waits up to a minute while the server answers other connections
                           (``postgres.pulse``); transactions that need the same rows also wait
no connection within 1 s   StoreAway; in all, a call has its first answer within 1.8 s or fails
a deadlock, a lost race    rolled back and repeated, up to 5 times in all
the process is frozen      after 1.5 s inside a transaction the server rolls it back
a transaction pool         refused on opening: sessions would lose their settings
it is read-only            StoreAway; of several hosts in the URL, the one that accepts writes is
                           used
another server answers     all sessions use the newest server that was seen; an older one is
                           refused (StoreBehind) until ``db restored`` (``postgres.servers``)
a new timeline             a failover may have lost the last commits: as after a restored backup,
                           all earlier leases are void (``steps.history``)
a crash before the standby nothing is read from the restarted server until the standby has the
has the last commits       commits (``postgres.settling``; ``postgres.connection.DURABLE``)
=========================  ======================================================================
"""

from pathlib import Path

from boxsched.errors import Invalid
from boxsched.store.outage import OutageLoggingDriver
from boxsched.store.sqlite.driver import SqliteDriver
from boxsched.store.store import Store

__all__ = ["Store", "is_postgres", "open_store", "sqlite_path"]

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
FOLDER_LOCK = "boxsched.lock"


def is_postgres(url: str) -> bool:
    return url.startswith(_POSTGRES)


def sqlite_path(url: str) -> Path:
    """The file of ``sqlite:///PATH``; raises Invalid for anything else."""
    path = url.removeprefix(_SQLITE)
    if path == url or not path:
        scheme = url.partition(":")[0]  # no more of it: it may hold a password
        raise Invalid(
            f"not a database this boxsched can use: {scheme!r}; "
            "sqlite:///PATH or postgresql://USER@HOST/NAME",
            "database",
        )
    return Path(path)


def open_store(url: str, data_folder: Path, *, remembers: bool = True) -> Store:
    """The store of a database URL, yet to be opened; it keeps other processes from the folder.

    ``remembers``: whether the folder holds how far a SQLite file has come, and an older copy of
    the file is refused.
    """
    folder_lock = data_folder / FOLDER_LOCK
    if is_postgres(url):
        from boxsched.store.postgres.driver import (
            PostgresDriver,  # its library only where it is used
        )

        return Store(OutageLoggingDriver(PostgresDriver(url, folder_lock)))
    return Store(
        OutageLoggingDriver(SqliteDriver(sqlite_path(url), folder_lock, remembers=remembers))
    )
