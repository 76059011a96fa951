"""The process that supervises one job: it starts the job exactly once and writes how it ended.

It needs no agent and no network. Imported by the spawner, so it imports only small modules of the
standard library.
"""

import contextlib
import os
import time

from boxsched.worker.supervisor import containment, job_secrets, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Started
from boxsched.worker.supervisor.supervision import Supervision

TICKET_WAIT_SECONDS = 0.01
SMALL_BOX = 100  # files: to remove them takes less time than to fork


def supervise(site: int, path: str, name: str) -> bool:
    """Run the attempt ``name`` to its end; return False if another process has started it.

    ``site`` is the descriptor of the agent's folder, ``path`` its path. Raises FileNotFoundError if
    the attempt's folder is gone, Damaged if its files were removed while the job ran.
    """
    at = safe_files.open_folder(name, site)
    lock = _take_turn(at)
    if lock is None:
        return False
    record = files.read_record(at)
    secret = job_secrets.read(at) if record.has_secrets else job_secrets.NO_SECRETS
    pid = os.getpid()
    started = Started(pid, containment.start_time(pid))
    try:
        # From now on the attempt counts as started.
        files.put(at, files.TICKET, files.STARTED, started)
    except FileNotFoundError:
        return False
    job_secrets.remove(at)  # no other process will start the attempt
    files.ring(site)
    try:
        ended = Supervision(site, at, f"{path}/{name}", record, secret).run()
        files.put(at, files.RESULT + files.RESERVED, files.RESULT, ended, durable=True)
    except FileNotFoundError as error:  # the spawner would read it as NOT_ITS_TURN
        raise safe_files.Damaged("its files were removed while it ran") from error
    # If it keeps files, the agent reads them first, and then removes the whole folder.
    if not record.keeps_files(ended):
        _remove_box(at, lock)
    os.close(lock)  # from now on the result counts
    files.ring(site)
    return True


def _take_turn(at: int) -> int | None:
    """Return the lock, or None if another process has started the attempt.

    The agent holds the lock for short times.
    """
    while safe_files.exists(at, files.TICKET):
        lock = safe_files.try_lock(at, files.LOCK)
        if lock is not None:
            return lock
        time.sleep(TICKET_WAIT_SECONDS)
    return None


def _remove_box(at: int, lock: int) -> None:
    """Remove the Box; a large one in a process of its own, because the Box counts as free before.

    What cannot be removed is removed with the attempt's folder.
    """
    left: list[str] = []
    with contextlib.suppress(OSError):
        left = safe_files.remove_tree(at, files.BOX, SMALL_BOX)
    if left and os.fork() == 0:
        os.close(lock)
        for tree in left:
            safe_files.remove_tree(at, tree)
        os._exit(0)
