"""What stands on the disk before an attempt begins; and the end of what must not begin again."""

import contextlib
import os

from boxsched.store.values import Assignment
from boxsched.worker import folder as files
from boxsched.worker import remains
from boxsched.worker.attempt import GONE, Attempt
from boxsched.worker.plan import Unrunnable, Worksite, attempt_name, cgroup_of, plan
from boxsched.worker.site import TRASH


def prepare(wanted: Assignment, site: Worksite, lost_after: float | None) -> Attempt | str:
    """Folder and record, durable; or why not. Blocking: this waits for the disk.

    Raises OSError where it may go better soon.
    """
    try:
        record, script = plan(wanted, site, lost_after)
        folder = f"{site.folder}/{attempt_name(wanted)}"
        if os.path.lexists(folder):  # half made when descriptors ran out; never asked for
            remains.set_aside(folder, f"{site.folder}/{TRASH}")
        attempt = Attempt.prepare(folder, record, script)
        with contextlib.ExitStack() as made:
            made.callback(attempt.close)
            files.sync_folder(site.folder)
            made.pop_all()
    except Unrunnable as refusal:
        return str(refusal)
    except OSError as error:
        if error.errno in files.NO_DESCRIPTOR:
            raise
        full = error.errno in files.FULL_ERRORS
        return files.DISK_FULL if full else f"cannot start it: {error.strerror}"
    return attempt


def end_unknown(wanted: Assignment, site: Worksite) -> str:
    """It began once, and nothing here says how it goes on: so it does not. Blocking."""
    name = attempt_name(wanted)
    remains.end_processes(f"{site.folder}/{name}", cgroup_of(site, name))
    return f"lost: {GONE}"
