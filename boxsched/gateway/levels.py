"""Encode levels within the limit of a message's size."""

from collections.abc import Sequence
from operator import attrgetter

import attrs
import msgspec

from boxsched.protocol.assignments import Assignment
from boxsched.protocol.wire import MAX_MESSAGE_BYTES, Level, Task, encode

_of_assignment = attrgetter(*Task.__struct_fields__)
# Fields that only the node uses:
_UNSENT = {"owner", "has_secrets", "has_credentials", "from_fork", "cache", "build"}
assert {*Task.__struct_fields__} | _UNSENT == {field.name for field in attrs.fields(Assignment)}


def level_text(assignments: Sequence[Assignment]) -> bytes:
    """Return the text of a Level that fits into one message.

    If it is too large, because jobs have long commands, first the commands of started jobs are left
    out, which are no longer needed. Then jobs that have not started are left out, those with the
    newest leases first, so that each gets its turn.
    """
    tasks = [Task(*_of_assignment(assignment)) for assignment in assignments]
    text = encode(Level(tuple(tasks)))
    if len(text) <= MAX_MESSAGE_BYTES:
        return text
    return encode(Level(tuple(_fitting(tasks))))


def _fitting(tasks: Sequence[Task]) -> list[Task]:
    fitting: list[Task] = []
    size = len(encode(Level(())))
    for task in sorted(tasks, key=lambda task: (not task.started, task.lease_token)):
        if task.started:
            task = msgspec.structs.replace(
                task, commands=(), environment={}, secrets=(), credentials=None
            )
        size += len(encode(task)) + 1
        if task.started or size <= MAX_MESSAGE_BYTES:
            fitting.append(task)
    return fitting
