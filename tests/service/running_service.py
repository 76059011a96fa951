"""A whole node over a real SQLite store, which listens on its own port."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import msgspec
from aiohttp import web
from multidict import CIMultiDict

from boxsched.api.app import application
from boxsched.api.http.connection_limits import ConnectionLimits
from boxsched.api.http.peers import Peers
from boxsched.api.http.serving import Runner
from boxsched.api.messages.answers import workload
from boxsched.clock import Clock
from boxsched.node.node import Node
from boxsched.node.options import Options
from boxsched.protocol.batches import StoredEvent
from boxsched.store import open_store

PATIENCE_SECONDS = 20.0
API = "/api/v1"
KEY_BLOB = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00 " + bytes(range(32))
PUBLIC_KEY = "ssh-ed25519 " + base64.b64encode(KEY_BLOB).decode()


@attrs.frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> Mapping[str, Any]:
        return self.json["error"]


class RunningService:
    """A node that serves; ``call`` sends requests with the admin token by default."""

    def __init__(self, node: Node, runner: Runner) -> None:
        self.node = node
        self.runner = runner
        self.token = (node.options.data / "admin-token").read_text().strip()
        self.port: int = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = aiohttp.ClientSession(
            auto_decompress=False, headers={"Accept-Encoding": "identity"}
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, data: Path, **options: Any) -> AsyncIterator["RunningService"]:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        asked = Options(**{"data": data, "boxes": 2, "box_driver": "none", **options})
        node = Node(asked, open_store(asked.database_url, data), Clock(), workload)
        await node.store.open()
        await node.start("http://127.0.0.1")
        places = ConnectionLimits(Peers(asked.trusted_proxies), asked.connections_per_address)
        runner = Runner(application(node), places=places, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service = cls(node, runner)
        try:
            yield service
        finally:
            await service.client.close()
            await node.hang_up()
            await runner.cleanup()
            await node.stop()

    async def call(
        self,
        method: str,
        path: str,
        json: object = None,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """``token``: "" = the admin token, None = none."""
        sent = CIMultiDict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.token}")
        if json is not None:
            data = msgspec.json.encode(json)
        async with self.client.request(
            method, self.url + path, data=data, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    # --- Requests in scheduling terms ------------------------------------------------------

    async def project(self, name: str = "web", **settings: object) -> Answer:
        settings.setdefault("jobs", [job()])
        return await self.call("PUT", f"{API}/projects/{name}", settings)

    async def build(self, project: str = "web", **asked: object) -> Any:
        if "tag" not in asked:
            asked.setdefault("branch", "main")
        return await self._made(await self.call("POST", f"{API}/projects/{project}/builds", asked))

    async def deploy(self, server: str, project: str = "web", **asked: object) -> Any:
        asked["server"] = server
        return await self._made(await self.call("POST", f"{API}/projects/{project}/deploys", asked))

    async def _made(self, answer: Answer) -> Any:
        assert answer.status == 201, answer.body
        return answer.json

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", API + path)
        assert answer.status == 200, answer.body
        return answer.json

    async def look(self, workload: str) -> Any:
        return await self.get(f"/workloads/{workload}")

    async def until(self, workload: str, **wanted: object) -> Any:
        """Wait, by events, until these fields of the workload have these values."""

        def so(seen: Mapping[str, Any]) -> bool:
            return all(seen[name] == value for name, value in wanted.items())

        async with asyncio.timeout(PATIENCE_SECONDS), self.node.feed.subscribe(None) as events:
            seen = await self.look(workload)
            if so(seen):
                return seen
            async for _ in events:
                seen = await self.look(workload)
                if so(seen):
                    return seen
        raise AssertionError(f"{workload} never came to {wanted}: {seen}")

    async def finished(self, workload: str) -> Any:
        return await self.until(workload, state="finished")

    async def until_event(self, is_it: Callable[[StoredEvent], bool]) -> StoredEvent:
        async with asyncio.timeout(PATIENCE_SECONDS), self.node.feed.subscribe(None) as events:
            async for event in events:
                if is_it(event):
                    return event
        raise AssertionError("the feed closed")


def job(name: str = "test", *commands: str, **more: object) -> dict[str, Any]:
    return {"name": name, "commands": list(commands) or ["true"], **more}


def jobs(count: int) -> list[dict[str, Any]]:
    return [job(f"part {n}") for n in range(count)]


async def refused(service: RunningService, path: str, body: object) -> tuple[int, str | None]:
    answer = await service.call("POST", API + path, body)
    return answer.status, answer.error.get("field")


async def stop(service: RunningService, id_: str, **headers: str) -> Answer:
    return await service.call("POST", f"{API}/workloads/{id_}/stop", headers=headers)
