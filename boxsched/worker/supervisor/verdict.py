"""What decides a job's end, and what that is called.

Imported by the spawner: standard library only, and little of it.
"""

import signal
from typing import NamedTuple

from boxsched import commits
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.folder import Outcome

# Why a job is ended by its supervisor, where it does not end by itself.
STOPPED, TIMED_OUT, LOST, DISK_FULL = "stopped", "timed out", "lost", files.DISK_FULL


class Verdict(NamedTuple):
    """What an attempt comes to; a name and two numbers for people. ``lost``: not by its own doing,
    so that a build may have another."""

    result: Outcome
    reason: str | None
    exit_status: int | None = None
    signal: int | None = None
    timed_out: bool = False
    lost: bool = False
    not_begun: bool = False  # the commands never began, for a cause of the worker


def judge(cause: str | None, status: int | None, limit: float, lost_after: float | None) -> Verdict:
    """The script's result, or of what was ended for ``cause``. ``status`` None: no script ran."""
    exit_status = status if status is not None and status >= 0 else None
    killed_by = -status if status is not None and status < 0 else None
    if cause == TIMED_OUT:
        return Verdict("failed", f"time limit of {limit:g} s", None, killed_by, True)
    if cause == LOST:
        reason = f"lost: no node was heard for {lost_after:g} s"
        return Verdict("failed", reason, None, killed_by, lost=True)
    if cause == STOPPED:
        return Verdict("stopped", "stopped", exit_status, killed_by)
    if status == 0:
        return Verdict("passed", None, 0)
    return Verdict("failed", ending(status or 0), exit_status, killed_by)


def ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def commit(at: int, name: str) -> str | None:
    """The whole hash that begins the file's last line; None where there is none."""
    try:
        lines = (safe_files.read_file(at, name) or b"").split(b"\n")
    except safe_files.Damaged:
        return None
    words = [line.split()[0].decode(errors="replace") for line in lines if line.strip()]
    return words[-1] if words and commits.is_whole(words[-1]) else None


def ended_by(cause: str, limit: float, lost_after: float | None, why_stopped: str | None) -> str:
    """What a job's log says when its supervisor ends it."""
    if cause == TIMED_OUT:
        return f"time limit of {limit:g} s reached, so the job is ended"
    if cause == LOST:
        return f"no node was heard for {lost_after:g} s, so the job is ended: it may run elsewhere"
    why = why_stopped or STOPPED
    return why if why.startswith((STOPPED, "ended")) else f"{STOPPED}: {why}"


def why_stopped(at: int) -> str | None:
    """Who asked for the stop and why, as one line; None where the agent did not say."""
    try:
        text = (safe_files.read_file(at, files.WHY) or b"").decode(errors="replace").strip()
    except (safe_files.Damaged, OSError):
        return None
    return "".join(char if char.isprintable() else "?" for char in text) or None


def grace(at: int) -> float | None:
    """How many seconds a stop leaves to the job; None while nobody asks for one."""
    try:
        text = safe_files.read_file(at, files.STOP)
        return None if text is None else float(text)
    except (safe_files.Damaged, ValueError):
        return 0.0  # the job's own doing
    except OSError:
        return None  # no descriptor is left in the machine: at the next look
