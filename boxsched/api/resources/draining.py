"""Drain workers, cancel drains, and remove workers: ``/workers/{worker}``."""

import asyncio
import time
from collections.abc import Callable, Sequence

from aiohttp import web

from boxsched.api.auth.actor import ACTOR, organization_of
from boxsched.api.http import bodies, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.messages.requests import AskDrain, Nothing
from boxsched.api.resources.fleet import worker_answer
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.backoff import doubling
from boxsched.errors import Conflict, OutcomeUnknown
from boxsched.node.node import Node
from boxsched.protocol import inbox
from boxsched.protocol.shards import OrganizationRef
from boxsched.protocol.workers import IN_PROCESS, WorkerConnection
from boxsched.store.records import Worker

FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.01, 2.0
DECIDED_SECONDS = 10.0  # how long to wait for the leader's decision
# how long to wait for the end of a worker without jobs, which is notified at its heartbeat
ENDED_SECONDS = 20.0

_drain = bodies.Form(AskDrain, AskDrain())
_nothing = bodies.Form(Nothing, Nothing())


class DrainRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store

    async def drain(self, request: web.Request) -> web.Response:
        """202 when the leader has processed it: from then on the worker gets no jobs."""
        ask = _drain.read(await bodies.read(request))
        organization = organization_of(request)
        worker = await self._find(request)
        now = time.time()
        stop_at = None if ask.stop_after_seconds is None else now + ask.stop_after_seconds
        drained = await self._drained(organization, worker, request[ACTOR], ask.note, now, stop_at)
        return replies.json(worker_answer(drained), 202)

    async def resume(self, request: web.Request) -> web.Response:
        """202 when the leader has processed it. A worker that may already be ending gets jobs when
        it connects again.
        """
        _nothing.read(await bodies.read(request))
        organization = organization_of(request)
        worker = await self._find(request)
        if worker.drain_since is None:
            raise Conflict(f"the worker {worker.name} is not being drained")
        await self._node.ask(organization.shard, inbox.DrainEnded(worker.id, request[ACTOR]))
        now = await self._until(
            organization,
            worker.id,
            lambda one: one.drain_since is None,
            DECIDED_SECONDS,
            _undecided,
        )
        return replies.json(worker_answer(now), 202)

    async def remove(self, request: web.Request) -> web.Response:
        """204: the worker and its Boxes are removed. A connected one ends first.

        If it connects again, it is a new worker.
        """
        organization = organization_of(request)
        worker = await self._find(request)
        _refuse_with_jobs(worker)
        await self._refuse_of_living_node(organization, worker)
        if worker.state != "disconnected":
            await self._drained(
                organization, worker, request[ACTOR], "to be removed", time.time(), None
            )
            worker = await self._until(
                organization,
                worker.id,
                lambda one: one.state == "disconnected",
                ENDED_SECONDS,
                lambda: Conflict(
                    f"the worker {worker.name} is draining, and has not ended yet: "
                    "repeat this when it has"
                ),
            )
            _refuse_with_jobs(worker)  # a job that began just before the drain
        await self._remove(organization, worker, request[ACTOR])
        return web.Response(status=204)

    async def _refuse_of_living_node(self, organization: OrganizationRef, worker: Worker) -> None:
        """Raise Conflict for a node's own worker, unless its node has ended."""
        if worker.address != IN_PROCESS:
            return
        [place] = [
            p.node for p in await self._store.pulses(organization.shard) if p.worker == worker.id
        ]
        if any(node.name == place and node.alive for node in await self._node.standing()):
            raise Conflict(f"the worker {worker.name} belongs to a node: stop the node first")

    async def _remove(self, organization: OrganizationRef, worker: Worker, by: str) -> None:
        """Wait until the leader has released the worker's Boxes, and remove the worker."""
        [number] = [
            p.connection
            for p in await self._store.pulses(organization.shard)
            if p.worker == worker.id
        ]
        await self._node.ask(organization.shard, inbox.WorkerForgotten(worker.id, number, by))
        last = WorkerConnection(worker.id, number)
        pauses = doubling(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS)
        while not await asyncio.shield(self._store.forget_worker(last)):
            pause = next(pauses, None)
            if pause is None:
                raise Conflict(
                    f"the worker {worker.name} is connected again, or its Boxes are in use"
                )
            await asyncio.sleep(pause)

    async def _drained(
        self,
        organization: OrganizationRef,
        worker: Worker,
        by: str,
        note: str,
        since: float,
        stop_at: float | None,
    ) -> Worker:
        await refuse_beside_older(self._node, "drains")
        await self._node.ask(
            organization.shard, inbox.DrainSet(worker.id, by, note, since, stop_at)
        )
        return await self._until(
            organization,
            worker.id,
            # or another drain, asked for at the same time
            lambda one: one.drain_since not in (None, worker.drain_since),
            DECIDED_SECONDS,
            _undecided,
        )

    async def _find(self, request: web.Request) -> Worker:
        workers = await self._store.workers(organization_of(request).id)
        return find_worker(request.match_info["worker"], workers)

    async def _until(
        self,
        organization: OrganizationRef,
        worker: int,
        holds: Callable[[Worker], bool],
        seconds: float,
        otherwise: Callable[[], Exception],
    ) -> Worker:
        """Check the worker repeatedly until ``holds`` is true. Raises NotFound, and after
        ``seconds`` what ``otherwise`` returns.
        """
        pauses = doubling(FIRST_LOOK_SECONDS, 1.0)
        end = time.monotonic() + seconds
        while True:
            found = find_worker(str(worker), await self._store.workers(organization.id))
            if holds(found):
                return found
            if time.monotonic() >= end:
                raise otherwise()
            await asyncio.sleep(next(pauses, 1.0))


def _undecided() -> OutcomeUnknown:
    return OutcomeUnknown(
        "the request is stored, and no leader has taken it up yet: repeat it to be sure"
    )


def find_worker(text: str, workers: Sequence[Worker]) -> Worker:
    """Return the worker with this id or name. Raises NotFound."""
    found = [one for one in workers if str(one.id) == text]
    found = found or [one for one in workers if one.name == text]
    if not found:
        raise no_such("worker", text, hint="; `boxsched workers list` shows their names")
    return found[0]


def _refuse_with_jobs(worker: Worker) -> None:
    if not (worker.builds or worker.deploys or worker.ssh_sessions):
        return
    if worker.state == "disconnected":
        raise Conflict(
            f"the worker {worker.name} has jobs that may still run: set their results first "
            "(boxsched resolve); jobs to be run again must first get another worker's Box"
        )
    raise Conflict(
        f"the worker {worker.name} has jobs: drain it, and remove it when they have ended "
        "(boxsched workers drain --wait)"
    )
