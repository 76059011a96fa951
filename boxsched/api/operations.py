"""What operators' tools ask: is it alive, should requests be sent here, its figures, its API."""

from collections import Counter
from collections.abc import Iterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from boxsched.api import replies
from boxsched.errors import StoreAway
from boxsched.node import Node


class Health(msgspec.Struct, frozen=True):
    status: str


class Operations:
    def __init__(self, node: Node, answered: Counter[tuple[str, int]]) -> None:
        self._node = node
        self._description = b"{}"
        self._registry = CollectorRegistry()
        self._registry.register(Figures(node, answered))

    def describe(self, description: bytes) -> None:
        """openapi.json: made of all routes, these among them, so that it comes after them."""
        self._description = description

    async def healthz(self, request: web.Request) -> web.Response:
        """The process answers."""
        return replies.json(Health("ok"))

    async def readyz(self, request: web.Request) -> web.Response:
        """Requests should be sent here: the engine leads, the database answers."""
        if not self._node.ready:
            raise StoreAway("not ready: starting, stopping, or loading")
        await self._node.store.ping()
        return replies.json(Health("ready"))

    async def metrics(self, request: web.Request) -> web.Response:
        response = web.Response(body=generate_latest(self._registry))
        response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
        return response

    async def openapi(self, request: web.Request) -> web.Response:
        return replies.json_bytes(self._description)


class Figures(Collector):
    """Read when asked for; nothing is counted twice, and the hot path pays for a dict entry."""

    def __init__(self, node: Node, answered: Counter[tuple[str, int]]) -> None:
        self._node = node
        self._answered = answered

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "boxsched_http_requests", "Requests answered", labels=("route", "status")
        )
        for (route, status), count in sorted(self._answered.items()):
            requests.add_metric((route, str(status)), count)
        yield requests
        yield from self._engine()
        yield GaugeMetricFamily(
            "boxsched_event_readers", "Open event streams", len(self._node.feed.readers)
        )

    def _engine(self) -> Iterator[Metric]:
        engine = self._node.engine
        counters = engine.counters
        yield GaugeMetricFamily("boxsched_leads", "Whether the engine leads", int(engine.leads))
        for name, meaning, value in (
            ("turns", "Turns of the engine, each one commit", counters.turns),
            ("commands", "Inbox commands applied", counters.commands),
            ("events", "Events of the durable history", counters.events),
            ("workloads_admitted", "Workloads that were given Boxes", counters.admitted),
            ("workloads_finished", "Workloads that finished", counters.finished),
            ("shard_loads", "Times that the shard was loaded", counters.loads),
            ("commit_seconds", "Time spent in commits", counters.commit_seconds),
        ):
            yield CounterMetricFamily(f"boxsched_{name}", meaning, value)
        books = engine.books
        if books is not None:
            core = books.core
            yield GaugeMetricFamily("boxsched_boxes", "Boxes there are", len(core.boxes))
            yield GaugeMetricFamily("boxsched_boxes_busy", "Boxes in use", core.usage.boxes)
            yield GaugeMetricFamily(
                "boxsched_workloads_unfinished", "Unfinished workloads", len(books.workloads)
            )
