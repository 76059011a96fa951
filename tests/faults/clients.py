"""Clients of a cluster: they ask any node, repeat requests under the same key, and record
everything."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from tests.faults.journal import Answered, Asked, Journal
from tests.faults.waiting import until_true

FINAL = {200, 201, 202, 404, 409, 422}
ANSWER_SECONDS = 5.0  # then another node is asked
PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 60.0

NO_ANSWER = (aiohttp.ClientError, ConnectionError, TimeoutError)


@attrs.frozen
class Reply:
    status: int
    headers: dict[str, str]
    json: Any


@attrs.define
class Figures:
    """Measurements of clients: ``answer_seconds`` of requests that were answered 2xx at the first
    try."""

    answer_seconds: list[float] = attrs.field(factory=list)
    no_answer: int = 0
    away: int = 0  # 503


class Clients:
    """``urls`` are the nodes'; a node that is away is skipped.

    ``keep_alive``: use connections for many requests.
    """

    def __init__(
        self, urls: Sequence[str], token: str, journal: Path, *, keep_alive: bool = False
    ) -> None:
        self.urls = list(urls)
        self.journal = Journal(journal)
        self.figures = Figures()
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, force_close=not keep_alive),
        )

    async def close(self) -> None:
        await self._http.close()
        self.journal.close()

    # --- One request ------------------------------------------------------------------------

    async def once(
        self, url: str, method: str, path: str, json: object = None, **headers: str
    ) -> Reply:
        """Ask one node, once; raises one of NO_ANSWER."""
        async with self._http.request(
            method, f"{url}/api/v1/{path}", json=json, headers=headers
        ) as answer:
            is_json = answer.content_type == "application/json"
            said = await answer.json() if is_json else await answer.text()
            return Reply(answer.status, dict(answer.headers), said)

    async def text(self, url: str) -> str:
        async with self._http.get(url) as answer:
            return await answer.text()

    async def ask(self, method: str, path: str, json: object = None, **headers: str) -> Reply:
        """Ask nodes until one answers; only for requests that may be repeated."""
        start = random.randrange(len(self.urls))
        async with asyncio.timeout(PATIENCE_SECONDS):
            for turn in range(1_000_000):
                url = self.urls[(start + turn) % len(self.urls)]
                with contextlib.suppress(*NO_ANSWER):
                    reply = await self.once(url, method, path, json, **headers)
                    if reply.status in FINAL:
                        return reply
                    if reply.status != 503:
                        raise AssertionError(f"{method} {path}: {reply}")
                await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def get(self, path: str) -> Any:
        reply = await self.ask("GET", path)
        assert reply.status == 200, reply
        return reply.json

    # --- Submissions, recorded --------------------------------------------------------------

    async def submit(
        self,
        key: str,
        path: str,
        body: Mapping[str, object],
        *,
        urls: Sequence[str] = (),
        patience: float = PATIENCE_SECONDS,
    ) -> str | None:
        """Ask any node (or one of ``urls``) until there is an answer; None if there was none in
        time."""
        body = {**body, "message": key}
        await self.journal.write(Asked(key, path, body))
        urls = urls or random.sample(self.urls, len(self.urls))
        loop = asyncio.get_running_loop()
        until, turn = loop.time() + patience, 0
        while loop.time() < until:
            url = urls[turn % len(urls)]
            turn += 1
            began = loop.time()
            status, id_ = await self._submit_once(url, key, path, body)
            if status is not None:
                await self.journal.write(Answered(key, url, status, id_))
            if status in FINAL:
                if turn == 1:
                    self.figures.answer_seconds.append(loop.time() - began)
                return id_
            await asyncio.sleep(PAUSE_SECONDS)
        return None

    async def _submit_once(
        self, url: str, key: str, path: str, body: Mapping[str, object]
    ) -> tuple[int | None, str | None]:
        try:
            reply = await self.once(url, "POST", path, body, **{"Idempotency-Key": key})
        except NO_ANSWER:
            self.figures.no_answer += 1
            return None, None
        if reply.status == 503:
            self.figures.away += 1
            return 503, None
        assert reply.status in (201, 409), f"{key}: {reply}"
        return reply.status, reply.json["id"] if reply.status == 201 else None

    async def workloads(self) -> dict[str, Any]:
        """Return all workloads by id."""
        found: dict[str, Any] = {}
        cursor = ""
        while True:
            page = await self.get(f"workloads?limit=200{cursor}")
            found |= {workload["id"]: workload for workload in page["workloads"]}
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"


_loads = itertools.count(1)


@attrs.define
class Load:
    """Submits continuously: ``rate`` per second; a tenth are sent twice at once, to two nodes, and
    a tenth are stopped."""

    clients: Clients
    rate: float
    branches: int = 6
    servers: int = 0
    chance: random.Random = attrs.field(factory=lambda: random.Random(7))
    submitted: int = 0
    _name: str = attrs.field(factory=lambda: f"load-{next(_loads)}")
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)

    async def run(self) -> None:
        try:
            while True:
                task = asyncio.create_task(self._one(f"{self._name}-{self.submitted}"))
                self.submitted += 1
                self._tasks.add(task)
                await asyncio.sleep(self.chance.expovariate(self.rate))  # the load's own pace
        finally:
            await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Return when this many more have been submitted."""
        goal = self.submitted + count
        await until_true(lambda: self.submitted >= goal, "load")

    async def _one(self, key: str) -> None:
        path, body = "projects/web/builds", {"branch": f"b{self.chance.randrange(self.branches)}"}
        if self.servers and self.chance.random() < 0.2:
            path, body = (
                "projects/web/deploys",
                {"server": f"s{self.chance.randrange(self.servers)}"},
            )
        twice, stopped = self.chance.random() < 0.1, self.chance.random() < 0.1
        ids = await asyncio.gather(
            *(self.clients.submit(key, path, body) for _ in range(2 if twice else 1))
        )
        if stopped and ids[0] is not None:
            await self.clients.ask("POST", f"workloads/{ids[0]}/stop")


@contextlib.asynccontextmanager
async def loaded(clients: Clients, rate: float, **how: Any) -> AsyncIterator[Load]:
    """Run the body under load; at the end every started request has its answer."""
    load = Load(clients, rate, **how)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
