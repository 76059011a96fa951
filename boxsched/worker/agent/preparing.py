"""Write an attempt's folder before it begins; end an attempt that must not begin again."""

import contextlib
import os

from boxsched.protocol.assignments import Assignment
from boxsched.worker.agent import remains
from boxsched.worker.agent.attempt import GONE, Attempt, Phase
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.plan import Worksite, attempt_name, cgroup_of, limit_groups, plan
from boxsched.worker.agent.repository import Unrunnable
from boxsched.worker.agent.site import TRASH
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import job_secrets, safe_files, trouble
from boxsched.worker.supervisor.folder import Record
from boxsched.worker.supervisor.job_secrets import NO_SECRETS, JobSecrets

# Notes that are written later. Their disk space is reserved before the job begins.
_RESERVED = (files.STOP, files.WHY, files.RUNNING, files.FOUND, files.FIXED, files.RESULT)


class CannotBegin(Exception):
    """The job can begin on another worker; the message says what is wrong with this one."""


def prepare(wanted: Assignment, site: Worksite, lost_after: float | None) -> Attempt | str:
    """Make a durable folder and record; or return why the job fails. Blocking: waits for the disk.

    Raises CannotBegin if this worker is the cause, OSError if a retry may succeed.
    """
    try:
        if trouble.has_no_room(site.folder):
            raise CannotBegin(files.DISK_FULL)
        record, script, secret = plan(wanted, site, lost_after)
        name = attempt_name(wanted)
        if safe_files.exists(site.at, name):  # left incomplete by an earlier try; never started
            remains.set_aside(site.at, name, TRASH)
        attempt = make_attempt(
            AttemptFolder(site.at, f"{site.folder}/{name}"), record, script, secret
        )
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


def make_attempt(
    folder: AttemptFolder, record: Record, script: bytes, secret: JobSecrets = NO_SECRETS
) -> Attempt:
    """Make the attempt's folder, the record last. Raises OSError."""
    os.mkdir(folder.name, 0o700, dir_fd=folder.site)
    attempt = Attempt(folder, record, Phase.PREPARED)
    try:
        _fill(folder.at, record, script, secret)
        attempt.spool.open()
    except OSError:
        attempt.close()
        with contextlib.suppress(OSError):  # the next try sets aside what remains
            safe_files.remove_tree(folder.site, folder.name)
        raise
    return attempt


def _fill(at: int, record: Record, script: bytes, secret: JobSecrets) -> None:
    safe_files.write_file(at, files.SCRIPT, script)
    if record.has_secrets:
        job_secrets.write(at, secret)
    for name in (files.LOCK, files.LOG):
        safe_files.write_file(at, name, b"")
    for name in (files.TICKET, files.SENT):
        files.reserve(at, name)
    sessions_own = () if record.session is None else (files.OPENED,)
    for name in (*_RESERVED, *sessions_own):
        files.reserve(at, name + files.RESERVED)
    files.write_record(at, record)


def end_unknown(wanted: Assignment, site: Worksite) -> str:
    """End an attempt that has begun and has no folder here; return the reason. Blocking."""
    name = attempt_name(wanted)
    cgroup, groups = cgroup_of(site, name), limit_groups(site, name)
    remains.end_processes(f"{site.folder}/{name}", None, cgroup, groups)
    return f"lost: {GONE}"
