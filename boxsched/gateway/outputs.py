"""Limit the output of a worker's jobs to the node's own log limit.

A worker limits its jobs' logs itself, and marks where it has cut them. If a worker does not, or has
a larger limit than its node, the log is cut here.
"""

from boxsched.worker.agent.spool import most_bytes

MIB = 1 << 20


def within(offset: int, data: bytes, limit: int) -> bytes:
    """Return the part of a chunk to keep, with a mark where the log is cut; empty after that.

    A repeated chunk gets the same result. ``limit``: of a log in bytes, without its end and marks.
    """
    most = most_bytes(limit)
    if offset + len(data) <= most:
        return data
    if offset >= most:
        return b""
    size = f"{limit // MIB} MiB" if limit % MIB == 0 else f"{limit} bytes"
    mark = f"\n[boxsched: this node stores {size} of a log: the rest was cut]\n"
    return data[: most - offset] + mark.encode()
