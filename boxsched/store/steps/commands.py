"""Commands for a shard's leader: each is put into the inbox, in the caller's transaction."""

from collections.abc import Sequence

from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.store.blocks import Call, load

_SQL = load("submission.sql")


def add_commands(shard: int, commands: Sequence[tuple[str, bytes]]) -> Call:
    """Put commands into a shard's inbox."""
    return _SQL["insert_commands"].rows(
        [(shard, kind, payload.decode(), None) for kind, payload in commands]
    )


def add_workload_command(command: inbox.Command, workload: WorkloadId) -> Call:
    """Put a command about a workload into its shard's inbox."""
    kind, payload = inbox.written(command)
    return _SQL["add_workload_command"](kind=kind, payload=payload.decode(), workload=workload)
