"""A process that dies just before its n-th change of a file.

Only calls by ``boxsched.worker`` are counted. Standard library only, because a spawner imports it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CHANGES = ("open", "mkdir", "mkfifo", "write", "pwrite", "fsync", "rename", "unlink", "rmdir")

COUNTED = f"{os.sep}boxsched{os.sep}worker{os.sep}"

BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tests.worker.crash import spawner; spawner(sys.argv[2], int(sys.argv[3]))"
)
ORDER = "crash"  # beside the agent's folder: before which change the next supervisor dies


class Crashed(Exception):
    """Raised in place of every change from the n-th on: a dead process changes nothing."""


class Crash:
    """``at``: the change before which the process dies, or None to only count the changes."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.done: list[str] = []  # the changes so far
        self.dead = False
        self._pid = os.getpid()

    def before(self, change: str) -> None:
        if os.getpid() != self._pid:
            return  # a child, which must not die
        if self.dead or (self.at is not None and len(self.done) + 1 >= self.at):
            self.dead = True
            self.die(change)
        self.done.append(change)

    def die(self, change: str) -> None:
        raise Crashed(change)

    @contextmanager
    def armed(self) -> Iterator["Crash"]:
        real = {name: getattr(os, name) for name in CHANGES}
        for name, function in real.items():
            setattr(os, name, self._counted(name, function))
        try:
            yield self
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            changes = name != "open" or arguments[1] & os.O_CREAT
            if changes and COUNTED in sys._getframe(1).f_code.co_filename:
                self.before(f"{name} {arguments[0]}")
            return real(*arguments, **more)

        return counted


class Killed(Crash):
    """End like a crashed machine: nothing of the process runs any more."""

    def die(self, change: str) -> None:
        os.kill(self._pid, signal.SIGKILL)


def spawner(folder: str, descriptors: int) -> None:
    """Run the spawner; its next supervisor dies as ORDER says. The order is used once."""
    from boxsched.worker.supervisor import spawner as real

    order = os.path.join(os.path.dirname(folder), ORDER)
    supervise = real.supervise

    def supervised(site: int, path: str, name: str) -> bool:
        try:
            os.rename(order, f"{order}-{name}")
        except FileNotFoundError:
            return supervise(site, path, name)
        with open(f"{order}-{name}") as file:
            at = int(file.read())
        with Killed(at).armed():
            return supervise(site, path, name)

    real.supervise = supervised
    real.main(folder, descriptors)
