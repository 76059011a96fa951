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

Shards. An organization stays in one shard, and everything that belongs to it too: projects and
workers by a column, workloads through their project, Boxes through their worker. So ``submit``
finds the shard together with the numbers.

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

``outage`` logs StoreAway, once and then about once a minute; callers that try again do not log it.

=========================  ======================================================================
the disk is full, or fails rolled back, StoreAway; the next transaction is tried as if nothing was
a row that must not be     each constraint has its answer (``constraints``): the transaction is
                           begun anew, or it is a mistake of ours, InvariantRefused
a read is too long         stopped at its deadline: TooLong
COMMIT itself fails        disk full: StoreAway; else OutcomeUnknown: repeat with the same key, or
                           read ``batch_number``
the caller is cancelled    its transaction was not begun, or is done whole; never half
kill -9, power loss        WAL with synchronous=FULL: all that returned is there, nothing half
a second process           refused by a lock on the data folder, which a crash lets go of
its rows were moved        refused: a mark beside the file says where they went (``moved``)
the file is damaged        StoreDamaged, which names it
an older copy of the file  refused (StoreBehind) until ``db restored`` (``sqlite_marks``)
an older schema            upgraded on opening, in one transaction
a newer schema             used as it is, or refused: it says itself whom it lets in
=========================  ======================================================================

PostgreSQL, besides:

=========================  ======================================================================
the connection breaks      before COMMIT was sent: StoreAway; else OutcomeUnknown. It is closed, and
                           those that waited beside it; the next call connects anew
a statement is canceled,   StoreAway, and rolled back; aiopg would make CancelledError of it, which
by time or by hand         ends a background loop without a word
no answer for 1.7 s        as a broken connection; the server gives up by itself a little earlier
COMMIT takes longer        waited for, up to a minute, while the server answers others
                           (``postgres_pulse``); what needs the same rows waits as long
no connection within 1 s   StoreAway; in all, a call has its first answer within 1.8 s or fails
a deadlock, a lost race    rolled back and begun anew, up to 5 times in all
the process is frozen      after 1.5 s inside a transaction the server rolls it back
a transaction pool         refused on opening: sessions would lose their settings
it takes no writes         StoreAway: a standby, or set to be read-only; of several hosts in the URL
                           the one that takes writes is found
it has become another one  all sessions go to the newest server that was seen; an older one is
                           refused (StoreBehind) until ``db restored`` (``postgres_servers``)
a new timeline             a failover may have lost what was committed last: as behind a restored
                           backup, all that was given out is void (``steps.history``)
a crash before the standby nothing is read from the restarted server until the standby has it
has what was committed     (``postgres_settling``; ``postgres_connection.DURABLE``)
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
