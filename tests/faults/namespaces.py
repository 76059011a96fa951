"""A network for one test: namespaces joined by veth pairs, whose links the test takes down.

Nothing of it is visible in the machine's own namespace. A namespace lasts as long as its holder
process, which reads from a pipe until the test closes it, however the test ends.
"""

import contextlib
import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator

import pytest

CLONE_NEWNET = 0x40000000
HOLDER = ("unshare", "--net", "sh", "-c", "echo here && exec cat")

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """Skips the test if the machine does not allow namespaces."""

    def __init__(self) -> None:
        try:
            self._holder = subprocess.Popen(
                HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError as error:
            pytest.skip(f"network namespaces: {error}")
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if not self._holder.stdout.readline():
            why = self._holder.stderr.read().decode().strip()
            self.close()
            pytest.skip(f"network namespaces are not allowed here: {why}")
        self.within = ["nsenter", f"--net={self.path}"]

    @property
    def path(self) -> str:
        return f"/proc/{self._holder.pid}/ns/net"

    @property
    def pid(self) -> int:
        return self._holder.pid

    def ip(self, *command: str) -> None:
        done = subprocess.run(
            [*self.within, "ip", *command], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"ip {' '.join(command)} is not allowed here: {done.stderr.strip()}")

    def close(self) -> None:
        self._holder.communicate()


class Spoke:
    """A namespace with one link, to the hub."""

    def __init__(self, hub: Namespace, number: int) -> None:
        self.namespace = Namespace()
        self.address, self.hub_address = f"10.0.{number}.2", f"10.0.{number}.1"
        self._hub, self._link = hub, f"spoke{number}"
        ends = ("type", "veth", "peer", "name", "hub", "netns", str(self.namespace.pid))
        hub.ip("link", "add", "name", self._link, *ends)
        hub.ip("address", "add", f"{self.hub_address}/24", "dev", self._link)
        self.namespace.ip("address", "add", f"{self.address}/24", "dev", "hub")
        self.namespace.ip("link", "set", "lo", "up")
        self.namespace.ip("link", "set", "hub", "up")
        self.up()

    def down(self) -> None:
        """Nothing passes, without an error on either side."""
        self._hub.ip("link", "set", self._link, "down")

    def up(self) -> None:
        self._hub.ip("link", "set", self._link, "up")


class Network:
    """``hub`` is the namespace of the test itself."""

    def __init__(self, hub: Namespace, stack: contextlib.ExitStack) -> None:
        self._hub = hub
        self._stack = stack
        self._numbers = itertools.count(1)

    def spoke(self) -> Spoke:
        spoke = Spoke(self._hub, next(self._numbers))
        self._stack.callback(spoke.namespace.close)
        return spoke


@contextlib.contextmanager
def networked() -> Iterator[Network]:
    """Move this thread, and all processes and threads that it starts meanwhile, into the hub."""
    with contextlib.ExitStack() as stack:
        hub = Namespace()
        stack.callback(hub.close)
        hub.ip("link", "set", "lo", "up")
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        stack.callback(os.close, home)
        there = os.open(hub.path, os.O_RDONLY)
        stack.callback(os.close, there)
        _enter(there)
        stack.callback(_enter, home)
        yield Network(hub, stack)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
