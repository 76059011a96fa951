"""Decide a job's result and its reason.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import math
import signal
from collections.abc import Sequence
from typing import NamedTuple

from boxsched import commits
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.folder import Outcome

# Why a supervisor ends a job.
STOPPED, TIMED_OUT, LOST, DISK_FULL = "stopped", "timed out", "lost", files.DISK_FULL
OVER_DISK = "over its disk limit"


class Verdict(NamedTuple):
    """The result of an attempt.

    ``reason``, ``exit_status`` and ``signal`` are for users. ``lost``: the job is not the cause,
    so a build may run again.
    """

    result: Outcome
    reason: str | None
    exit_status: int | None = None
    signal: int | None = None
    timed_out: bool = False
    lost: bool = False
    not_begun: bool = False  # the commands never began because of the worker


def judge(
    cause: str | None,
    status: int | None,
    limit: float,
    lost_after: float | None,
    *,
    session: bool = False,
) -> Verdict:
    """Return the result of a job with this exit status that was ended for ``cause``, if any.

    ``status`` None: no script ran; negative: a signal. ``limit`` and ``lost_after``: seconds.
    ``session``: it is the open session of a user, which may use its whole time.
    """
    exit_status = status if status is not None and status >= 0 else None
    killed_by = -status if status is not None and status < 0 else None
    if cause == TIMED_OUT and session:
        return Verdict("passed", f"time limit of {limit:g} s", 0)
    if cause == TIMED_OUT:
        return Verdict("failed", f"time limit of {limit:g} s", None, killed_by, True)
    if cause == LOST:
        reason = f"lost: no node answered for {lost_after:g} s"
        return Verdict("failed", reason, None, killed_by, lost=True)
    if cause == STOPPED:
        return Verdict("stopped", "stopped", exit_status, killed_by)
    if status == 0:
        return Verdict("passed", None, 0)
    return Verdict("failed", ending(status or 0), exit_status, killed_by)


def at_limits(said: Verdict, reached: Sequence[str]) -> Verdict:
    """Return the verdict of a job that has reached these limits: they may be why it failed."""
    by_itself = said.result == "failed" and not said.timed_out and not said.lost
    if not reached or not by_itself:
        return said
    is_certain = not reached[0].endswith("processes")
    return said._replace(reason=reached[0] if is_certain else f"{said.reason}, {reached[0]}")


def ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def commit(at: int, name: str) -> str | None:
    """Return the whole hash at the start of the file's last line, None if there is none."""
    try:
        lines = (safe_files.read_file(at, name) or b"").split(b"\n")
    except safe_files.Damaged:
        return None
    words = [line.split()[0].decode(errors="replace") for line in lines if line.strip()]
    return words[-1] if words and commits.is_whole(words[-1]) else None


def ended_by(cause: str, limit: float, lost_after: float | None, why_stopped: str | None) -> str:
    """Return the message for a job's log when its supervisor ends it."""
    if cause == TIMED_OUT:
        return f"time limit of {limit:g} s reached, so the job is ended"
    if cause == LOST:
        return f"no node answered for {lost_after:g} s, so the job is ended: it may run elsewhere"
    why = why_stopped or STOPPED
    return why if why.startswith((STOPPED, "ended")) else f"{STOPPED}: {why}"


def why_stopped(at: int) -> str | None:
    """Return who asked for the stop and why, as one line; None if the agent did not write it."""
    try:
        text = (safe_files.read_file(at, files.WHY) or b"").decode(errors="replace").strip()
    except (safe_files.Damaged, OSError):
        return None
    return "".join(char if char.isprintable() else "?" for char in text) or None


def grace(at: int) -> float | None:
    """Return the seconds between SIGTERM and SIGKILL of a stop; None if there is no stop."""
    try:
        text = safe_files.read_file(at, files.STOP)
        seconds = None if text is None else float(text)
    except (safe_files.Damaged, ValueError):
        return 0.0  # the job has damaged the file
    except OSError:
        return None  # no descriptor is left; the next look tries again
    return seconds if seconds is None or 0 <= seconds < math.inf else 0.0
