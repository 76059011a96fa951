"""What only a store can say; the errors that a caller meets are in ``boxsched.errors``."""

from boxsched.errors import BoxschedError, StoreAway


class StoreInUse(StoreAway):
    """Another process works on this data folder: stop it, or take another folder."""

    code = "store_in_use"


class StoreDamaged(StoreAway):
    """The database file is damaged: stop the service and put a sound copy in its place."""

    code = "store_damaged"


class SchemaTooNew(StoreAway):
    """A newer boxsched has upgraded this database: run that version, or a copy from before."""

    code = "schema_too_new"


class InvariantRefused(BoxschedError):
    """The schema refused a write that breaks an invariant: a mistake of ours; nothing was done."""

    code = "invariant_refused"
