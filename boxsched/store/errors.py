"""Errors that only a store raises; the errors of every caller are in ``boxsched.errors``."""

import errno

from boxsched.errors import BoxschedError, Conflict, StoreAway

FULL = (errno.ENOSPC, errno.EDQUOT)  # `errno` of an OSError


class StoreInUse(StoreAway):
    """Another process uses this data folder: stop it, or use another folder."""

    code = "store_in_use"


class StoreDamaged(StoreAway):
    """The database file is damaged: stop the service and replace the file by a good copy."""

    code = "store_damaged"


class SchemaTooNew(StoreAway):
    """A newer boxsched has upgraded this database: use that version, or an older backup."""

    code = "schema_too_new"


class SchemaTooOld(StoreAway):
    """The database has an older schema: run ``boxsched db upgrade`` as the owner of its tables."""

    code = "schema_too_old"


class RightMissing(StoreAway):
    """The database's role lacks a right: run ``boxsched db upgrade --grant ROLE`` as the owner."""

    code = "right_missing"


class FolderUnusable(StoreAway):
    """The data folder is not writable: change its permissions, or use another folder."""

    code = "folder_unusable"


class StoreMoved(StoreAway):
    """``boxsched db move`` moved this file's rows to another database: give its URL."""

    code = "store_moved"


class StoreRefuses(StoreAway):
    """PostgreSQL has no such role or database, or refuses the password: correct the URL."""

    code = "store_refuses"


class StoreBehind(StoreAway):
    """The database is older than what this node has seen: an old primary, or a backup.

    Stop it, or run ``boxsched db restored`` if a backup was restored on purpose.
    """

    code = "store_behind"


class InvariantRefused(BoxschedError):
    """The schema refused a write that breaks an invariant: a bug; nothing was written."""

    code = "invariant_refused"


class BoundToAnother(Conflict):
    """The worker is bound to another token: use that token, or revoke it first."""

    code = "bound_to_another"


class InUse(Conflict):
    """Another process is connected as this worker: give each worker a data folder of its own."""

    code = "in_use"


def in_use(address: str, node: str) -> str:
    """Return why a copy of a connected worker is refused, and what to do."""
    return (
        f"another process is connected as this worker, from {address} to the node {node}: one of "
        "the two has a copy of the other's data folder. Stop one, and give it an empty data folder "
        "and a token of its own"
    )


class TokenTaken(Conflict):
    """Another worker has taken this token, which is for one worker: create one for each."""

    code = "token_taken"


class NoPlace(Conflict):
    """The token has reached its limit of workers: create another token."""

    code = "no_place"


class NotYet(Conflict):
    """An earlier change must be completed first: try again a little later."""

    code = "not_yet"


# Errors that waiting cannot solve.
LASTING = (
    StoreInUse,
    StoreDamaged,
    SchemaTooNew,
    SchemaTooOld,
    RightMissing,
    FolderUnusable,
    StoreMoved,
    StoreRefuses,
)
