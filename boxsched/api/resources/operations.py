"""Routes for operators' tools: liveness, readiness, metrics, and openapi.json."""

from collections import Counter
from collections.abc import Iterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from boxsched.api.http import replies
from boxsched.blobs.counted import OPERATIONS, WITH_BYTES
from boxsched.errors import StoreAway
from boxsched.job_files import schema
from boxsched.node.node import Node

# Fields of engine.Counters. A metric has the field's name, unless _NAMED has another.
_COUNTED = (
    ("turns", "Turns of the engine, each one commit"),
    ("commands", "Inbox commands applied"),
    ("events", "Events of the durable history"),
    ("admitted", "Workloads that were given Boxes"),
    ("finished", "Workloads that finished"),
    ("retried", "Attempts that failed and were tried again in the same Box"),
    ("flaky", "Jobs that passed only when they were tried again"),
    ("loads", "Times that a shard was loaded"),
    ("fenced", "Commits that the fence refused"),
    ("set_aside", "Commands that failed or could not be read: boxsched set-aside list"),
    ("commit_seconds", "Time spent in commits"),
)
_NAMED = {
    "admitted": "workloads_admitted",
    "finished": "workloads_finished",
    "retried": "jobs_retried",
    "flaky": "jobs_flaky",
    "loads": "shard_loads",
    "fenced": "commits_fenced",
    "set_aside": "commands_set_aside",
}


# Fields of cluster.bus.Counts.
_HINTS = (
    ("dropped", "Hints that were not sent because Redis was away or too slow"),
    ("refused", "Messages, entries and keys in Redis that are not from this cluster"),
    ("heard", "Messages received from other nodes"),
    ("looked", "Entries of this node's stream that were processed"),
    ("claimed", "Entries of other nodes' streams that were processed for them"),
)


class Health(msgspec.Struct, frozen=True):
    status: str


class OperationRoutes:
    def __init__(
        self,
        node: Node,
        answered: Counter[tuple[str, int]],
        delivered: Counter[tuple[str, str]],
    ) -> None:
        """``answered``: requests by route and status; ``delivered``: deliveries by provider and
        result."""
        self._node = node
        self._description = b"{}"
        self._schema = schema.text()
        self._registry = CollectorRegistry()
        self._registry.register(NodeFigures(node, answered, delivered))

    def describe(self, description: bytes) -> None:
        """Set openapi.json, which is made when all routes exist, including these."""
        self._description = description

    async def job_file_schema(self, request: web.Request) -> web.Response:
        """Return the JSON Schema of job files, which is the same for all services, for editors."""
        return replies.json_bytes(self._schema)

    async def healthz(self, request: web.Request) -> web.Response:
        """Answer 200: the process is alive."""
        return replies.json(Health("ok"))

    async def readyz(self, request: web.Request) -> web.Response:
        """Answer 200 if requests should be sent here, also if the node does not lead.

        It must be started, not stopping, and able to read and write the database.
        """
        if not self._node.ready:
            raise StoreAway("not ready: starting or stopping")
        await self._node.store.ready()
        return replies.json(Health("ready"))

    async def metrics(self, request: web.Request) -> web.Response:
        response = web.Response(body=generate_latest(self._registry))
        response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
        return response

    async def openapi(self, request: web.Request) -> web.Response:
        return replies.json_bytes(self._description)


class NodeFigures(Collector):
    """The metrics, read from the node's own counters at each request."""

    def __init__(
        self,
        node: Node,
        answered: Counter[tuple[str, int]],
        delivered: Counter[tuple[str, str]],
    ) -> None:
        self._node = node
        self._answered = answered
        self._delivered = delivered

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "boxsched_http_requests", "Requests answered", labels=("route", "status")
        )
        for (route, status), count in sorted(self._answered.items()):
            requests.add_metric((route, str(status)), count)
        yield requests
        yield from self._turns()
        yield from self._led()
        yield from self._others()
        yield from self._hints()
        yield self._deliveries()
        yield self._notified()
        yield self._pruned()
        yield from self._files()
        yield self._round_trips()

    def _turns(self) -> Iterator[Metric]:
        """Counters of this node's engines, of all shards that it leads or has led."""
        for name, meaning in _COUNTED:
            value = getattr(self._node.counters, name)
            yield CounterMetricFamily(f"boxsched_{_NAMED.get(name, name)}", meaning, value)

        stages = CounterMetricFamily(
            "boxsched_stage_seconds",
            "Total time that workloads and jobs spent in a stage",
            labels=("stage",),
        )
        told = {"tell": self._node.gateway.figures.level_seconds}
        for name, seconds in self._node.stages.seconds.items():
            stages.add_metric((name,), seconds + told.get(name, 0.0))
        yield stages
        yield CounterMetricFamily(
            "boxsched_busy_box_seconds",
            "Time that Boxes were in use",
            self._node.stages.busy_box_seconds,
        )

    def _led(self) -> Iterator[Metric]:
        """Figures of the shards that this node leads."""
        leads = GaugeMetricFamily("boxsched_leads", "Whether it leads", labels=("shard",))
        boxes, busy, unfinished = (
            GaugeMetricFamily(f"boxsched_{name}", meaning, labels=("organization",))
            for name, meaning in (
                ("boxes", "Number of Boxes"),
                ("boxes_busy", "Boxes in use"),
                ("workloads_unfinished", "Unfinished workloads"),
            )
        )
        for shard, engine in sorted(self._node.leadership.engines.items()):
            leads.add_metric((str(shard),), int(engine.leads))
            books = engine.books
            if books is not None and books.organization.name:
                its = (books.organization.name,)
                boxes.add_metric(its, len(books.core.boxes))
                busy.add_metric(its, books.core.usage.boxes)
                unfinished.add_metric(its, len(books.workloads))
        yield from (leads, boxes, busy, unfinished)

    def _others(self) -> Iterator[Metric]:
        """Figures of this node's connections and event loop."""
        node = self._node
        figures = node.gateway.figures
        for name, meaning, value in (
            ("event_readers", "Open event streams", len(node.feed.readers)),
            (
                "loop_hold_seconds",
                "The longest time that the event loop was blocked in the last 1 to 2 minutes",
                node.holds.longest,
            ),
            ("bus_up", "Whether hints reach the other nodes", int(node.bus.up)),
            ("workers_connected", "Workers connected to this node", figures.connected),
            (
                "notifications_waiting",
                "Notifications of all nodes that are waiting for delivery; counted up to 100,000",
                node.sender.waiting,
            ),
            (
                "database_bytes",
                "The size of the database, as it was in the last minute",
                node.pruning.bytes,
            ),
        ):
            yield GaugeMetricFamily(f"boxsched_{name}", meaning, value)
        for name, meaning, value in (
            ("worker_messages", "Messages from workers", figures.messages),
            (
                "set_aside_dropped",
                "Commands that were set aside and then deleted because they were old or too many",
                node.retention.set_aside_dropped,
            ),
            ("worker_reports_stale", "Reports with an outdated lease", figures.stale_reports),
        ):
            yield CounterMetricFamily(f"boxsched_{name}", meaning, value)

    def _deliveries(self) -> Metric:
        """Results of code hosts' deliveries to this node."""
        deliveries = CounterMetricFamily(
            "boxsched_deliveries", "Deliveries of code hosts", labels=("provider", "result")
        )
        for labels, count in sorted(self._delivered.items()):
            deliveries.add_metric(labels, count)
        return deliveries

    def _notified(self) -> Metric:
        """Outcomes of this node's tries to deliver notifications."""
        tries = CounterMetricFamily(
            "boxsched_notification_tries", "Tries to deliver", labels=("outcome",)
        )
        for name in ("delivered", "failed", "dead"):
            tries.add_metric((name,), self._node.sender.counts[name])
        return tries

    def _pruned(self) -> Metric:
        """Numbers of rows that this node has deleted because they were old."""
        rows = CounterMetricFamily(
            "boxsched_pruned_rows", "Rows deleted because they were old", labels=("table",)
        )
        for table in ("workload", "event", "log_chunk", "log_file", "artifact"):
            rows.add_metric((table,), self._node.pruning.pruned[table])
        return rows

    def _files(self) -> Iterator[Metric]:
        """Artifacts, and the caches of workers that are connected here and of the node's own."""
        node = self._node
        size = CounterMetricFamily(
            "boxsched_artifact_bytes", "Bytes of artifacts", labels=("what",)
        )
        for what in ("kept", "given", "downloaded"):
            size.add_metric((what,), node.artifacts.bytes[what])
        yield size
        yield CounterMetricFamily("boxsched_artifacts", "Artifacts kept", node.artifacts.kept)
        swept = "Files of contents removed because nothing refers to them"
        yield CounterMetricFamily("boxsched_swept_files", swept, node.sweeping.removed)
        yield from self._log_store()
        own, others = node.worker.agent.cache_figures, node.gateway.figures.cache
        looked = CounterMetricFamily(
            "boxsched_cache_lookups", "Jobs that looked for a cache", labels=("result",)
        )
        for result, name in (("hit", "hits"), ("miss", "misses"), ("damaged", "damaged")):
            looked.add_metric((result,), getattr(own, name) + others[name])
        yield looked
        moved = CounterMetricFamily("boxsched_cache_bytes", "Bytes of caches", labels=("what",))
        for what in ("restored", "kept"):
            moved.add_metric((what,), getattr(own, f"{what}_bytes") + others[f"{what}_bytes"])
        yield moved
        spent = CounterMetricFamily(
            "boxsched_cache_seconds", "Time of jobs that a cache saved or cost", labels=("what",)
        )
        for what in ("saved", "lost"):
            name = f"{what}_milliseconds"
            spent.add_metric((what,), (getattr(own, name) + others[name]) / 1_000)
        yield spent

    def _log_store(self) -> Iterator[Metric]:
        """Requests to the folder or bucket; no samples if files are in the database."""
        store = self._node.files.log_store
        for name, meaning, operations in (
            ("requests", "Requests to the log store", OPERATIONS),
            ("failures", "Requests that failed, or whose file was not there", OPERATIONS),
            ("seconds", "Time of the requests", OPERATIONS),
            ("bytes", "Bytes of contents that were read or stored", WITH_BYTES),
        ):
            one = CounterMetricFamily(f"boxsched_log_store_{name}", meaning, labels=("operation",))
            if store is not None:
                for operation in operations:
                    one.add_metric((operation,), getattr(store.figures, name)[operation])
            yield one

    def _round_trips(self) -> Metric:
        """Round trips to the database. ``inbox`` and ``commit``: the engine's; the rest: API and
        workers.
        """
        trips = CounterMetricFamily(
            "boxsched_store_round_trips", "Round trips to the database", labels=("procedure",)
        )
        for name, count in sorted(self._node.store.round_trips.items()):
            trips.add_metric((name,), count)
        return trips

    def _hints(self) -> Iterator[Metric]:
        """Counters of the bus; none without Redis."""
        bus = self._node.bus
        for name, meaning in _HINTS:
            value = getattr(bus.counts, name)
            yield CounterMetricFamily(f"boxsched_bus_hints_{name}", meaning, value)
        yield CounterMetricFamily("boxsched_bus_trips", "Outages of Redis", bus.trips)
