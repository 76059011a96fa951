"""Faults from within a process of ours: on its PYTHONPATH this is imported before all else.

SIGUSR2: the main thread, and with it the event loop, stands still for ``FAULT_STALL`` seconds,
while other threads go on. ``FAULT_WALL``: a file with seconds by which the wall clock is wrong; it
is looked at again at every reading of the clock, so what is written there is a jump.
"""

import os
import signal
import time


def _stall(number: int, frame: object) -> None:
    time.sleep(float(os.environ.get("FAULT_STALL", "5")))


def _wrong_clock(path: str) -> None:
    right, right_ns = time.time, time.time_ns

    def wrong_by() -> float:
        with open(path) as file:
            return float(file.read() or 0)

    time.time = lambda: right() + wrong_by()
    time.time_ns = lambda: right_ns() + int(wrong_by() * 1e9)


signal.signal(signal.SIGUSR2, _stall)
if "FAULT_WALL" in os.environ:
    _wrong_clock(os.environ["FAULT_WALL"])
