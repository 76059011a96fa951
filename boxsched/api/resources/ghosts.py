"""Ghosts: list them, give jobs back to their workers, end them: ``/ghosts``."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.http import bodies, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339
from boxsched.api.messages.answers import text_id
from boxsched.api.messages.requests import Nothing
from boxsched.api.resources.in_scope import workloads_in
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.backoff import doubling
from boxsched.errors import Conflict, OutcomeUnknown
from boxsched.model import JobId, job_text, job_workload
from boxsched.node.node import Node
from boxsched.protocol import inbox
from boxsched.protocol.ghosts import Ghost
from boxsched.protocol.reasons import waits_again

FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.01, 2.0  # while the leader decides
SCHEMA = 8  # what programs know that have ghosts

_nothing = bodies.Form(Nothing, Nothing())


class GhostAnswer(Struct, frozen=True):
    """An attempt that a worker holds, and that is not its attempt for the scheduler.

    ``state``: running, or ended: then its end counts for nothing yet. ``since``: when it was found.
    ``killed_by``: who decided to end it; a build's is ended by its worker. ``refusal``: why its job
    cannot be given back to the worker; null: it can. ``workload``, ``project``, ``number``,
    ``kind`` and ``job_name`` are null if the scheduler does not know the job at all.
    """

    id: str
    worker: str
    worker_name: str
    connected: bool
    job: str
    attempt: int
    lease_token: int
    state: str
    since: str
    workload: str | None
    project: str | None
    number: int | None
    kind: str | None
    job_name: str | None
    job_state: str | None
    job_result: str | None
    killed_by: str | None
    refusal: str | None


class GhostList(Struct, frozen=True):
    ghosts: tuple[GhostAnswer, ...]


class GhostRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store

    async def list(self, request: web.Request) -> web.Response:
        """Return all ghosts, by worker."""
        scope = request[CALLER].scope
        found = await self._store.ghosts(scope.organization.id)
        seen = await workloads_in(
            self._store, scope, [job_workload(JobId(one.job)) for one in found]
        )
        shown = [_shown(one) for one in found if seen(job_workload(JobId(one.job)))]
        return replies.json(GhostList(tuple(shown)))

    async def restore(self, request: web.Request) -> web.Response:
        """202 when the scheduler has given the job back; 409 with the reason if it cannot."""
        _nothing.read(await bodies.read(request))
        ghost = await self._find(request)
        await refuse_beside_older(self._node, "ghosts", schema=SCHEMA)
        why_not = refusal(ghost)
        if why_not is not None:
            raise Conflict(why_not)
        said = inbox.Restore(
            ghost.worker, ghost.job, ghost.attempt, ghost.lease_token, request[ACTOR]
        )
        await self._node.ask(organization_of(request).shard, said)
        await self._restored(request, ghost)
        return replies.json(_shown(ghost), 202)

    async def kill(self, request: web.Request) -> web.Response:
        """202 when the decision is stored: the worker ends it at its next heartbeat."""
        _nothing.read(await bodies.read(request))
        ghost = await self._find(request)
        await refuse_beside_older(self._node, "ghosts", schema=SCHEMA)
        await asyncio.shield(self._store.kill_ghost(ghost.id, request[ACTOR]))
        return replies.json(_shown(await self._again(request, ghost)), 202)

    async def _ghosts(self, request: web.Request) -> Sequence[Ghost]:
        return await self._store.ghosts(organization_of(request).id)

    async def _again(self, request: web.Request, ghost: Ghost) -> Ghost:
        found = [one for one in await self._ghosts(request) if one.id == ghost.id]
        return found[0] if found else ghost  # its worker does not hold it any more

    async def _find(self, request: web.Request) -> Ghost:
        text = request.match_info["ghost"]
        for one in await self._ghosts(request):
            if str(one.id) == text:
                return one
        raise no_such("ghost", text, hint="; `boxsched workers ghosts` shows their IDs")

    async def _restored(self, request: web.Request, ghost: Ghost) -> None:
        """Wait for the scheduler's decision. Raises Conflict, OutcomeUnknown."""
        pauses = doubling(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS)
        while True:
            now = await self._again(request, ghost)
            stored = await self._store.workload(job_workload(JobId(ghost.job)))
            jobs = () if stored is None else stored.jobs
            if any(one.id == ghost.job and one.restored_from == ghost.lease_token for one in jobs):
                return
            why_not = refusal(now)
            if why_not is not None:
                raise Conflict(why_not)
            pause = next(pauses, None)
            if pause is None:
                raise OutcomeUnknown(
                    "the request is stored, and no leader has taken it up yet: look at the ghosts "
                    "again"
                )
            await asyncio.sleep(pause)


def refusal(ghost: Ghost) -> str | None:
    """Return why the job cannot be given back to the worker (as ``engine/ghosts`` decides)."""
    if ghost.killed_by is not None:
        return f"{ghost.killed_by} has decided to end it"
    if ghost.build:
        return "its worker ends it, because it is of a build"
    if ghost.job_state is None:
        return "the scheduler does not know its job"
    if ghost.job_state == "finished":
        return f"its job has finished: {ghost.job_result}"
    if ghost.workload_state == "stopping":
        return "its workload is being stopped"
    if ghost.job_state == "waiting":
        return "its job waits for a Box: it was never given, as far as the scheduler knows"
    if ghost.job_worker != ghost.worker:
        return f"another worker has attempt {ghost.job_attempt} of its job"
    if not ghost.connected:
        return "its worker is not connected: repeat this when it is"
    if ghost.job_state == "unknown" and waits_again(ghost.job_reason):
        return None if ghost.job_attempt == ghost.attempt else _later(ghost)
    begun = ghost.job_begun or ghost.job_state != "assigned"
    return _later(ghost) if begun or (ghost.job_attempt or 0) <= ghost.attempt else None


def _later(ghost: Ghost) -> str:
    return f"attempt {ghost.job_attempt} of its job has begun"


def _shown(ghost: Ghost) -> GhostAnswer:
    known = ghost.job_state is not None
    job = JobId(ghost.job)
    return GhostAnswer(
        str(ghost.id),
        str(ghost.worker),
        ghost.worker_name,
        ghost.connected,
        job_text(job),
        ghost.attempt,
        ghost.lease_token,
        "running" if ghost.running else "ended",
        rfc3339(ghost.since),
        text_id(job_workload(job)) if known else None,
        ghost.project,
        ghost.number,
        ghost.kind,
        ghost.name,
        ghost.job_state,
        ghost.job_result,
        ghost.killed_by,
        refusal(ghost),
    )
