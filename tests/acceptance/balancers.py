"""The load balancers of examples/cluster, started with the examples' own configuration."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES
from tests.faults.members import free_port
from tests.faults.waiting import until_true

CLUSTER = EXAMPLES / "cluster"

# nginx's example is the content of its folder conf.d; the rest is what a distribution ships.
_AROUND = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/boxsched.conf;
}}
"""


def placed(text: str, port: int, nodes: Sequence[int]) -> str:
    """Replace the example's three ports, its only change."""
    for example, here in zip((8080, 8081, 8082), (port, *nodes), strict=True):
        assert text.count(f"{example}") == 1, f"the example names port {example} once"
        text = text.replace(f"{example}", f"{here}")
    return text


class Balancer:
    """``port`` is chosen before the nodes have theirs."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "balancer.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def runs(self, name: str, nodes: Sequence[int]) -> Iterator[None]:
        process = self._process = self._begun(self._command(name, nodes))
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)

    async def answers(self) -> None:
        await until_true(self._listens, "the balancer listens")

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    def _begun(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _command(self, name: str, nodes: Sequence[int]) -> list[str]:
        if name == "nginx":
            return self._nginx(placed((CLUSTER / "nginx.conf").read_text(), self.port, nodes))
        return self._haproxy(placed((CLUSTER / "haproxy.cfg").read_text(), self.port, nodes))

    def _nginx(self, text: str) -> list[str]:
        # which user may read pytest's folders
        user = "user root root;" if os.geteuid() == 0 else ""
        (self._folder / "boxsched.conf").write_text(text)
        around = self._folder / "nginx.conf"
        around.write_text(_AROUND.format(folder=self._folder, user=user))
        return [program("nginx"), "-e", "stderr", "-p", str(self._folder), "-c", str(around)]

    def _haproxy(self, text: str) -> list[str]:
        if os.geteuid() != 0:  # which user may not become another
            kept = (line for line in text.splitlines(keepends=True) if line.split() not in _BECOMES)
            text = "".join(kept)
        (self._folder / "haproxy.cfg").write_text(text)
        return [program("haproxy"), "-db", "-f", str(self._folder / "haproxy.cfg")]


_BECOMES = (["user", "haproxy"], ["group", "haproxy"])


def program(name: str) -> str:
    """Return its path; Debian installs them outside of a normal user's PATH."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"no {name} here")
    return found
