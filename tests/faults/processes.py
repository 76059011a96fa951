"""Facts from /proc: children, states, environments. Linux only, like all fault tests."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

GONE_SECONDS = 10.0


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(one for child in found for one in descendants(child))]


def state(pid: int) -> str:
    """The state as ps shows it: R, S, T (stopped), Z (zombie); empty if there is no such
    process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send(pids: Iterable[int], sign: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def until_gone(pids: Iterable[int]) -> None:
    """Also for other processes' children; a zombie has no files and ports any more."""
    until = time.monotonic() + GONE_SECONDS
    for pid in pids:
        while state(pid) not in ("", "Z"):
            assert time.monotonic() < until, f"process {pid} does not go"
            time.sleep(0.005)


def living_in(folder: Path) -> Iterator[int]:
    """Return every process whose working directory, HOME or argument is in the folder."""
    inside = os.fsencode(folder)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            here = (
                os.fsencode(os.readlink(entry / "cwd")).startswith(inside)
                or inside in (entry / "cmdline").read_bytes()
                or b"HOME=" + inside in (entry / "environ").read_bytes()
            )
            if here:
                yield int(entry.name)


def clear(folder: Path) -> None:
    """Kill every process in a test's folder; repeat in case another was just starting one."""
    while found := [pid for pid in living_in(folder) if state(pid) not in ("", "Z")]:
        send(found, signal.SIGKILL)
        until_gone(found)
