"""Detect that a PostgreSQL database continues on a later timeline or on another server.

The last commits of the former server may be missing here (with an asynchronous standby), and ids
that were issued there must not be issued again. So the same is done as after restoring a backup.
"""

from boxsched.store.blocks import Steps, load
from boxsched.store.steps import maintenance
from boxsched.store.tables import TABLES

_SQL = load("history.sql")
_POSTGRES = load("history_postgres.sql")
_SEQUENCES = load("operating_postgres.sql")

# ids of each kind: more than can be issued in the time that a failover may lose
IDS_SKIPPED = 100_000
WORKLOAD_IDS = "workload_id"


def go_on(id_: str, system: str, timeline: int, now: float) -> Steps[bool]:
    """Begin a new history; return whether epochs, lease tokens and ids have jumped (not for the
    first).

    The first row lock makes concurrent callers wait, which then find it done.
    """
    yield _POSTGRES["lock_shards"]()
    found = yield _SQL["latest"]()
    if found and found[0] == (system, timeline):
        return False
    jumps = bool(found) and found[0][0] is not None
    if jumps:
        yield from maintenance.void_issued(now)
        yield from _skip_ids()
    yield _SQL["add"](id=id_, system=system, timeline=timeline, restored=False, began_at=now)
    return jumps


def _skip_ids() -> Steps[None]:
    """Use nextval, because a service's role may not set a sequence."""
    names = [WORKLOAD_IDS]
    for table in TABLES:
        names += [name for (name,) in (yield _SEQUENCES["sequences"](table=table))]
    for name in names:
        yield _POSTGRES["skip_ids"](sequence=name, count=IDS_SKIPPED)
