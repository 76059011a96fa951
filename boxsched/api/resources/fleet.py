"""Boxes and workers."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR
from boxsched.api.http import replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import text_time
from boxsched.api.messages.answers import text_id
from boxsched.backoff import doubling
from boxsched.errors import Conflict
from boxsched.model import job_text
from boxsched.node.node import Node
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD, Box
from boxsched.protocol.workers import IN_PROCESS, WorkerConnection
from boxsched.store.records import Worker

# Looks while an answer waits until the leader has released a worker's Boxes: about three seconds.
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.01, 2.0


class BoxAnswer(Struct, frozen=True):
    """A Box. ``job`` null: it is free. ``retired``: it is removed when its job has ended."""

    id: str
    worker: str
    worker_name: str
    number: int
    box_type: str
    retired: bool
    job: str | None
    job_name: str | None
    workload: str | None


class BoxList(Struct, frozen=True):
    boxes: tuple[BoxAnswer, ...]


class WorkerAnswer(Struct, frozen=True):
    """A worker. ``builds``, ``deploys``, ``ssh_sessions``: how many have a job on it now.

    ``seen_at``: its last heartbeat; null: not known. ``token``: the id of its token. ``problem``:
    why it cannot begin jobs now, so its Boxes get none; null: it can.
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


class WorkerList(Struct, frozen=True):
    workers: tuple[WorkerAnswer, ...]


class Fleet:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store

    async def boxes(self, request: web.Request) -> web.Response:
        """Return all Boxes, with what runs on them."""
        return replies.json(BoxList(tuple([_box(one) for one in await self._store.boxes()])))

    async def workers(self, request: web.Request) -> web.Response:
        """Return all workers; without a node's in-process worker if it has no Boxes."""
        found = await self._store.workers()
        shown = [one for one in found if one.address != IN_PROCESS or one.boxes]
        return replies.json(WorkerList(tuple([_worker(one) for one in shown])))

    async def forget(self, request: web.Request) -> web.Response:
        """204: the worker, given by id or name, and its Boxes are removed.

        If the worker connects again, it is a new one.
        """
        worker = _find(request.match_info["worker"], await self._store.workers())
        if worker.state != "disconnected":
            raise Conflict(f"the worker {worker.name} is {worker.state}: stop it first")
        if worker.builds or worker.deploys or worker.ssh_sessions:
            raise Conflict(
                f"the worker {worker.name} has jobs that may still run: set their results first "
                "(boxsched resolve); jobs to be run again must first get another worker's Box"
            )
        [number] = [p.connection for p in await self._store.pulses(SHARD) if p.worker == worker.id]
        forgotten = inbox.WorkerForgotten(worker.id, number, request[ACTOR])
        await self._node.ask(SHARD, forgotten)
        await self._gone(WorkerConnection(worker.id, number), worker.name)
        return web.Response(status=204)

    async def _gone(self, last: WorkerConnection, name: str) -> None:
        """Wait until the leader has released the worker's Boxes, and remove the worker."""
        pauses = doubling(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS)
        while not await asyncio.shield(self._store.forget_worker(last)):
            pause = next(pauses, None)
            if pause is None:
                raise Conflict(f"the worker {name} is connected again, or its Boxes are in use")
            await asyncio.sleep(pause)


def _find(text: str, workers: Sequence[Worker]) -> Worker:
    """Return the worker with this id or name."""
    found = [one for one in workers if str(one.id) == text]
    found = found or [one for one in workers if one.name == text]
    if not found:
        raise no_such("worker", text, hint="; `boxsched workers list` shows their names")
    return found[0]


def _box(box: Box) -> BoxAnswer:
    return BoxAnswer(
        str(box.id),
        str(box.worker),
        box.worker_name,
        box.ordinal,
        box.box_type,
        box.retired,
        None if box.job is None else job_text(box.job),
        box.job_name,
        text_id(box.workload),
    )


def _worker(worker: Worker) -> WorkerAnswer:
    return WorkerAnswer(
        str(worker.id),
        worker.name,
        worker.address,
        worker.state,
        worker.boxes,
        worker.builds,
        worker.deploys,
        worker.ssh_sessions,
        text_time(worker.seen_at),
        worker.token,
        worker.problem,
    )
