"""An operator's calls on a whole database, while or before services use it."""

import secrets
import time

import attrs

from boxsched.protocol.workers import IN_PROCESS
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.mapping import mapper

_SQL = load("operating.sql")
_HISTORY = load("history.sql")

JUMP = 1_000_000  # more batches than can be committed between a backup and its restoration


@attrs.frozen
class ShardStanding:
    """A shard for ``db status``. ``since``: when its leadership began."""

    id: int
    epoch: int
    batch: int
    node: str
    organization: str | None
    since: float | None


_standing = mapper(ShardStanding, _SQL["shards"].returns)


def shards() -> Steps[list[ShardStanding]]:
    return [_standing(row) for row in (yield _SQL["shards"]())]


def load_now() -> Steps[tuple[int, int]]:
    """Return (unfinished workloads, commands in inboxes)."""
    found = yield _SQL["load"]()
    unfinished, commands = found[0]
    return unfinished, commands


def restored(system: str | None = None, timeline: int | None = None) -> Steps[list[Row]]:
    """Mark a restored backup; return each new (shard, epoch, batch). Each call jumps again."""
    now = time.time()
    jumped = yield from void_issued(now)
    yield _HISTORY["add"](
        id=secrets.token_hex(16), system=system, timeline=timeline, restored=True, began_at=now
    )
    return jumped


def void_issued(now: float) -> Steps[list[Row]]:
    """Make sure that no earlier epoch, lease token or event id is issued again or is still valid.

    Returns each new (shard, epoch, batch).
    """
    jumped = yield _SQL["jump_shards"](by=JUMP)
    yield _SQL["jump_connections"](by=JUMP)
    yield _SQL["may_have_begun"](now=now)
    return sorted(jumped)


def moved() -> Steps[list[Row]]:
    """Complete a move to a database for several nodes; return each new (shard, epoch, batch)."""
    yield _SQL["name_in_process"](name=IN_PROCESS)
    return sorted((yield _SQL["raise_epochs"]()))
