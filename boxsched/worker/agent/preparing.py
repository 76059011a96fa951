"""Write an attempt's folder before it begins; end an attempt that must not begin again."""

import contextlib
import os

from boxsched.protocol.assignments import Assignment
from boxsched.worker.agent import remains
from boxsched.worker.agent.attempt import GONE, Attempt, Phase
from boxsched.worker.agent.place import Place
from boxsched.worker.agent.plan import Worksite, attempt_name, cgroup_of, plan
from boxsched.worker.agent.readiness import has_no_room
from boxsched.worker.agent.repository import Unrunnable
from boxsched.worker.agent.site import TRASH
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import given, safe_files, trouble
from boxsched.worker.supervisor.folder import Record
from boxsched.worker.supervisor.given import NOTHING, Given

# Notes that are written later; their place on the disk is taken before the job begins.
_RESERVED = (files.STOP, files.WHY, files.RUNNING, files.FOUND, files.FIXED, files.RESULT)


class CannotBegin(Exception):
    """The job can begin on another worker; the message says what is wrong with this one."""


def prepare(wanted: Assignment, site: Worksite, lost_after: float | None) -> Attempt | str:
    """Make folder and record, durable; or return why the job fails. Blocking: waits for the disk.

    Raises CannotBegin for a cause that lies with this worker, OSError if a retry may succeed.
    """
    try:
        if has_no_room(site.folder):
            raise CannotBegin(files.DISK_FULL)
        record, script, secret = plan(wanted, site, lost_after)
        name = attempt_name(wanted)
        if safe_files.exists(site.at, name):  # half made when descriptors ran out; never asked for
            remains.set_aside(site.at, name, TRASH)
        attempt = make_attempt(Place(site.at, f"{site.folder}/{name}"), record, script, secret)
        with contextlib.ExitStack() as made:
            made.callback(attempt.close)
            os.fsync(site.at)
            made.pop_all()
    except Unrunnable as refusal:
        return str(refusal)
    except OSError as error:
        if error.errno in safe_files.NO_DESCRIPTOR:
            raise
        raise CannotBegin(trouble.described(error, "cannot prepare jobs")) from None
    return attempt


def make_attempt(place: Place, record: Record, script: bytes, secret: Given = NOTHING) -> Attempt:
    """Make the attempt's folder, the record last. Raises OSError."""
    os.mkdir(place.name, 0o700, dir_fd=place.site)
    attempt = Attempt(place, record, Phase.PREPARED)
    try:
        _fill(place.at, record, script, secret)
        attempt.spool.open()
    except OSError:
        attempt.close()
        with contextlib.suppress(OSError):  # what remains is set aside by the next try
            safe_files.remove_tree(place.site, place.name)
        raise
    return attempt


def _fill(at: int, record: Record, script: bytes, secret: Given) -> None:
    safe_files.write_file(at, files.SCRIPT, script)
    if record.has_given:
        given.write(at, secret)
    for name in (files.LOCK, files.LOG):
        safe_files.write_file(at, name, b"")
    for name in (files.TICKET, files.SENT):
        files.reserve(at, name)
    for name in _RESERVED:
        files.reserve(at, name + files.RESERVED)
    files.write_record(at, record)


def end_unknown(wanted: Assignment, site: Worksite) -> str:
    """End an attempt that has begun and has no folder here; return the reason. Blocking."""
    name = attempt_name(wanted)
    remains.end_processes(f"{site.folder}/{name}", None, cgroup_of(site, name))
    return f"lost: {GONE}"
