"""What a node keeps of the output that a worker sends: no more than its own log limit.

A worker bounds its jobs' logs itself, and marks what it has cut. One that does not, or that was
given a larger limit than its node, is cut here.
"""

from boxsched.worker.agent.spool import MARKS_BYTES

MIB = 1 << 20


def within(offset: int, data: bytes, limit: int) -> bytes:
    """The part of a chunk that is kept, with a mark where the log is cut; empty behind that.

    The same for a chunk that comes again. ``limit`` is that of a log without marks of its own.
    """
    most = limit + MARKS_BYTES
    if offset + len(data) <= most:
        return data
    if offset >= most:
        return b""
    size = f"{limit // MIB} MiB" if limit % MIB == 0 else f"{limit} bytes"
    mark = f"\n[boxsched: this node keeps {size} of a log: the rest was cut]\n"
    return data[: most - offset] + mark.encode()
