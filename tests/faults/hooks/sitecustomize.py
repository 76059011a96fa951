"""Faults inside a process: if this folder is on its PYTHONPATH, Python imports this file first.

SIGUSR2: the main thread, and with it the event loop, stands still while the file ``FAULT_STALL``
exists; other threads continue. ``FAULT_WALL``: a file with the seconds by which the wall clock is
wrong; it is read at every reading of the clock, so a change is a jump. ``FAULT_RATE``: how many
seconds all clocks of the process count per second, from its start.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Any


def _stall(number: int, frame: object) -> None:
    while os.path.exists(os.environ["FAULT_STALL"]):
        time.sleep(0.01)


def _wrong_clock(path: str) -> None:
    right, right_ns = time.time, time.time_ns

    def wrong_by() -> float:
        with open(path) as file:
            return float(file.read() or 0)

    time.time = lambda: right() + wrong_by()
    time.time_ns = lambda: right_ns() + int(wrong_by() * 1e9)


def _wrong_rate(rate: float) -> None:
    """Applies to clocks read in Python; C libraries wait for the real time."""

    def wrong(read: Callable[..., Any]) -> Callable[..., Any]:
        began: dict[tuple[Any, ...], Any] = {}

        def reading(*which: Any) -> Any:
            now = read(*which)
            start = began.setdefault(which, now)
            return start + type(now)((now - start) * rate)

        return reading

    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "clock_gettime"):
        setattr(time, name, wrong(getattr(time, name)))


signal.signal(signal.SIGUSR2, _stall)
if "FAULT_RATE" in os.environ:
    _wrong_rate(float(os.environ["FAULT_RATE"]))
if "FAULT_WALL" in os.environ:
    _wrong_clock(os.environ["FAULT_WALL"])
