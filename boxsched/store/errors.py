"""Errors that only a store raises; the errors of every caller are in ``boxsched.errors``."""

import errno

from boxsched.errors import BoxschedError, Conflict, StoreAway

FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError


class StoreInUse(StoreAway):
    """Another process works on this data folder: stop it, or take another folder."""

    code = "store_in_use"


class StoreDamaged(StoreAway):
    """The database file is damaged: stop the service and put a sound copy in its place."""

    code = "store_damaged"


class SchemaTooNew(StoreAway):
    """A newer boxsched has upgraded this database: run that version, or a copy from before."""

    code = "schema_too_new"


class SchemaTooOld(StoreAway):
    """The database has an older schema: run ``boxsched db upgrade`` as the owner of its tables."""

    code = "schema_too_old"


class RightMissing(StoreAway):
    """The database's role may not do this: ``boxsched db upgrade --grant ROLE``, as the owner."""

    code = "right_missing"


class FolderUnusable(StoreAway):
    """The data folder cannot be written to: give the right to, or take another folder."""

    code = "folder_unusable"


class StoreMoved(StoreAway):
    """``boxsched db move`` took this file's rows elsewhere: give the new database's URL."""

    code = "store_moved"


class StoreRefuses(StoreAway):
    """PostgreSQL has no such role or database, or refuses the password: mend the URL, or it."""

    code = "store_refuses"


class StoreBehind(StoreAway):
    """The database is older than what this node has seen: an old primary, or a backup.

    Stop it, or run ``boxsched db restored`` where a backup was restored on purpose.
    """

    code = "store_behind"


class InvariantRefused(BoxschedError):
    """The schema refused a write that breaks an invariant: a mistake of ours; nothing was done."""

    code = "invariant_refused"


class BoundToAnother(Conflict):
    """The worker is bound to another token: connect with that one, or revoke it first."""

    code = "bound_to_another"


class NoPlace(Conflict):
    """As many workers as it may have are bound to this token: make another token."""

    code = "no_place"


class NotYet(Conflict):
    """An earlier change must be completed first: try the same again a little later."""

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
