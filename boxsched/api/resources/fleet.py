"""Boxes and workers."""

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import CALLER, organization_of
from boxsched.api.http import replies
from boxsched.api.http.times import text_time
from boxsched.api.messages.answers import text_id
from boxsched.api.resources.in_scope import workloads_in
from boxsched.model import job_text
from boxsched.node.node import Node
from boxsched.protocol import fingerprint
from boxsched.protocol.shards import Box
from boxsched.protocol.workers import IN_PROCESS
from boxsched.store.records import Worker


class BoxAnswer(Struct, frozen=True):
    """A Box. ``busy``: it runs a job. ``job`` and what follows it are null for a free Box, and for
    one whose job is not in the scope of the caller's token. ``retired``: it is removed when its job
    has ended.
    """

    id: str
    worker: str
    worker_name: str
    number: int
    box_type: str
    retired: bool
    busy: bool
    job: str | None
    job_name: str | None
    workload: str | None


class BoxList(Struct, frozen=True):
    boxes: tuple[BoxAnswer, ...]


class DrainAnswer(Struct, frozen=True):
    """Who drains a worker, since when and why. ``stop_at``: when the jobs that still run are
    stopped; null: never. ``done``: it has no jobs any more."""

    note: str
    since: str
    by: str
    stop_at: str | None
    done: bool


class WorkerAnswer(Struct, frozen=True):
    """A worker. ``state``: connected, incompatible, draining or disconnected. ``builds``,
    ``deploys``, ``ssh_sessions``: how many have a job on it now.

    ``seen_at``: its last heartbeat; null: not known. ``token``: the id of its token. ``problem``:
    why it cannot begin jobs now, so its Boxes get none; null: it can. ``fingerprint``: what changes
    how it runs jobs. ``enforced``: what it enforces of them, in words. ``differs``: how it differs
    from what its leader requires, part by part. ``notes``: what an operator should look at, such as
    records of jobs that it could not use.
    """

    id: str
    name: str
    address: str
    state: str
    boxes: int
    builds: int
    deploys: int
    ssh_sessions: int
    seen_at: str | None
    token: str | None
    problem: str | None
    drain: DrainAnswer | None
    fingerprint: str
    enforced: str
    differs: tuple[str, ...]
    notes: tuple[str, ...]


class WorkerList(Struct, frozen=True):
    workers: tuple[WorkerAnswer, ...]


class FleetRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store

    async def boxes(self, request: web.Request) -> web.Response:
        """Return all Boxes, with what runs on them."""
        found = await self._store.boxes(organization_of(request).id)
        ids = [one.workload for one in found]
        seen = await workloads_in(self._store, request[CALLER].scope, ids)
        return replies.json(BoxList(tuple([_box(one, seen(one.workload)) for one in found])))

    async def workers(self, request: web.Request) -> web.Response:
        """Return all workers; without a node's in-process worker if it has no Boxes."""
        found = await self._store.workers(organization_of(request).id)
        shown = [one for one in found if one.address != IN_PROCESS or one.boxes]
        return replies.json(WorkerList(tuple([worker_answer(one) for one in shown])))


def _box(box: Box, seen: bool) -> BoxAnswer:
    return BoxAnswer(
        str(box.id),
        str(box.worker),
        box.worker_name,
        box.ordinal,
        box.box_type,
        box.retired,
        box.job is not None,
        job_text(box.job) if seen and box.job is not None else None,
        box.job_name if seen else None,
        text_id(box.workload) if seen else None,
    )


def worker_answer(worker: Worker) -> WorkerAnswer:
    return WorkerAnswer(
        str(worker.id),
        worker.name,
        worker.address,
        _state(worker),
        worker.boxes,
        worker.builds,
        worker.deploys,
        worker.ssh_sessions,
        text_time(worker.seen_at),
        worker.token,
        worker.problem,
        _drain(worker),
        worker.fingerprint,
        fingerprint.enforced(fingerprint.parts(worker.fingerprint)),
        worker.differs,
        worker.notes,
    )


def _state(worker: Worker) -> str:
    """A worker that is drained because it is incompatible is incompatible."""
    if worker.state != "connected":
        return worker.state
    if worker.differs and (worker.drain_since is None or worker.drain_automatic):
        return "incompatible"
    return "draining" if worker.drain_since is not None else "connected"


def _drain(worker: Worker) -> DrainAnswer | None:
    since = text_time(worker.drain_since)
    if since is None:
        return None
    return DrainAnswer(
        worker.drain_note or "",
        since,
        worker.drain_by or "",
        text_time(worker.drain_stop_at),
        worker.drain_done,
    )
