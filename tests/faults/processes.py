"""What /proc knows: children, states, environments. Linux only, as all faults here."""

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
    """As ps shows it: R, S, T (stopped), Z (zombie); empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send(pids: Iterable[int], sign: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def until_gone(pids: Iterable[int]) -> None:
    """Others' children too; a zombie is gone as far as its files and ports are concerned."""
    until = time.monotonic() + GONE_SECONDS
    for pid in pids:
        while state(pid) not in ("", "Z"):
            assert time.monotonic() < until, f"process {pid} does not go"
            time.sleep(0.005)


def living_in(folder: Path) -> Iterator[int]:
    """Every process, however it got away, whose working directory, HOME or argument is in there."""
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
    """Kill all that live in a test's folder; again while one was just begun by another."""
    while found := [pid for pid in living_in(folder) if state(pid) not in ("", "Z")]:
        send(found, signal.SIGKILL)
        until_gone(found)
