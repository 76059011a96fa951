"""Write an attempt's folder before it begins; end an attempt that must not begin again."""

import contextlib
import os

from boxsched.protocol.assignments import Assignment
from boxsched.worker.agent import remains
from boxsched.worker.agent.attempt import GONE, Attempt
from boxsched.worker.agent.place import Place
from boxsched.worker.agent.plan import Worksite, attempt_name, cgroup_of, plan
from boxsched.worker.agent.readiness import has_no_room
from boxsched.worker.agent.repository import Unrunnable
from boxsched.worker.agent.site import TRASH
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import trouble


class CannotBegin(Exception):
    """The job can begin on another worker; the message says what is wrong with this one."""


def prepare(wanted: Assignment, site: Worksite, lost_after: float | None) -> Attempt | str:
    """Make folder and record, durable; or return why the job fails. Blocking: waits for the disk.

    Raises CannotBegin for a cause that lies with this worker, OSError if a retry may succeed.
    """
    try:
        if has_no_room(site.folder):
            raise CannotBegin(files.DISK_FULL)
        record, script = plan(wanted, site, lost_after)
        name = attempt_name(wanted)
        if files.exists(site.at, name):  # half made when descriptors ran out; never asked for
            remains.set_aside(site.at, name, TRASH)
        attempt = Attempt.prepare(Place(site.at, f"{site.folder}/{name}"), record, script)
        with contextlib.ExitStack() as made:
            made.callback(attempt.close)
            os.fsync(site.at)
            made.pop_all()
    except Unrunnable as refusal:
        return str(refusal)
    except OSError as error:
        if error.errno in files.NO_DESCRIPTOR:
            raise
        raise CannotBegin(trouble.described(error, "cannot prepare jobs")) from None
    return attempt


def end_unknown(wanted: Assignment, site: Worksite) -> str:
    """End an attempt that has begun and has no folder here; return the reason. Blocking."""
    name = attempt_name(wanted)
    remains.end_processes(f"{site.folder}/{name}", None, cgroup_of(site, name))
    return f"lost: {GONE}"
