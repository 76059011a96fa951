"""The process that supervises one job: starts it exactly once and writes how it ended.

It needs no agent and no network. The spawner imports it: standard library only, and little of it.
"""

import os
import time

from boxsched.worker.supervisor import containment, given, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Started
from boxsched.worker.supervisor.supervision import Supervision

TICKET_WAIT_SECONDS = 0.01


def supervise(site: int, path: str, name: str) -> bool:
    """Run the attempt ``name`` to its end; return False if another process has started it.

    ``site`` is the descriptor of the agent's folder, ``path`` its name. Raises FileNotFoundError if
    the attempt's folder is gone, Damaged if its files were taken away while the job ran.
    """
    at = safe_files.open_folder(name, site)
    lock = _take_turn(at)
    if lock is None:
        return False
    record = files.read_record(at)
    secret = given.read(at) if record.has_given else given.NOTHING
    pid = os.getpid()
    started = Started(pid, containment.start_time(pid))
    try:
        # From here on it counts as started, whatever happens.
        files.put(at, files.TICKET, files.STARTED, started)
    except FileNotFoundError:
        return False
    given.remove(at)  # no other process will start it
    files.ring(site)
    try:
        ended = Supervision(site, at, f"{path}/{name}", record, secret).run()
        files.put(at, files.RESULT + files.RESERVED, files.RESULT, ended, durable=True)
    except FileNotFoundError as error:  # else it would count as another's, and its job's own word
        raise safe_files.Damaged("its files were taken away while it ran") from error
    if os.fork() == 0:  # a large workspace takes long to remove: the Box is not kept for that
        os.close(lock)
        safe_files.remove_tree(at, files.BOX)
        os._exit(0)
    os.close(lock)  # only with that the result counts
    files.ring(site)
    return True


def _take_turn(at: int) -> int | None:
    """Return the lock, or None if another process has the attempt. The agent holds it briefly."""
    while safe_files.exists(at, files.TICKET):
        lock = safe_files.try_lock(at, files.LOCK)
        if lock is not None:
            return lock
        time.sleep(TICKET_WAIT_SECONDS)
    return None
