"""Boxes and workers."""

from aiohttp import web
from msgspec import Struct

from boxsched.api import replies
from boxsched.api.answers import text_id
from boxsched.model import job_text
from boxsched.node import Node
from boxsched.store.values import Box, Worker
from boxsched.worker.local import ADDRESS


class BoxAnswer(Struct, frozen=True):
    """A Box; ``job`` null = it is free. A ``retired`` one goes when its job has ended."""

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
    """A worker; ``builds``, ``deploys``, ``ssh_sessions`` with a job on it now."""

    id: str
    name: str
    address: str
    state: str
    boxes: int
    builds: int
    deploys: int
    ssh_sessions: int


class WorkerList(Struct, frozen=True):
    workers: tuple[WorkerAnswer, ...]


class Fleet:
    def __init__(self, node: Node) -> None:
        self._store = node.store

    async def boxes(self, request: web.Request) -> web.Response:
        """Every Box, with what runs on it."""
        return replies.json(BoxList(tuple([_box(one) for one in await self._store.boxes()])))

    async def workers(self, request: web.Request) -> web.Response:
        """The fleet; a node without Boxes of its own has no worker to speak of."""
        found = await self._store.workers()
        shown = [one for one in found if one.address != ADDRESS or one.boxes]
        return replies.json(WorkerList(tuple([_worker(one) for one in shown])))


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
    )
