"""Members of a cluster: nodes and workers, each with the proxies to the others."""

import socket
from pathlib import Path

from tests.faults.program import Program
from tests.faults.proxy import Proxy


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def moved(url: str, port: int) -> str:
    """Return the URL with another port on this machine."""
    before, _, after = url.partition("127.0.0.1:")
    return f"{before}127.0.0.1:{port}{after.lstrip('0123456789')}"


class Node(Program):
    """``to_postgres`` (and ``to_redis``) is the proxy that only this node uses."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        self.host = "127.0.0.1"  # where it is reached
        self.port = free_port()
        self.to_postgres: Proxy | None = None
        self.to_redis: Proxy | None = None
        super().__init__(folder, name, "serve", "--port", str(self.port), *options)
        self.environment["BOXSCHED_BOX_DRIVER"] = "process"  # jobs write into the test's folder

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    async def start(self) -> None:
        await self.spawn()
        await self.says("listening on ")

    @property
    def database_way(self) -> Proxy:
        assert self.to_postgres is not None
        return self.to_postgres


class Worker(Program):
    """``ways`` are the proxies that only this worker uses, one to each node."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        super().__init__(folder, name, "worker", "--name", name, *options)
        self.environment["BOXSCHED_BOX_DRIVER"] = "process"
        self.ways: list[Proxy] = []

    async def cut(self) -> None:
        for way in self.ways:
            await way.blackhole()

    async def heal(self) -> None:
        for way in self.ways:
            await way.heal()
