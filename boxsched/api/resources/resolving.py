"""Set the result of a job whose worker is away: ``POST /jobs/{id}/resolve``."""

from aiohttp import web

from boxsched.api.auth.actor import ACTOR, organization_of
from boxsched.api.http import bodies, recent, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.messages import answers
from boxsched.api.messages.requests import AskResolve
from boxsched.api.resources.settling import settled
from boxsched.api.submitting import commands
from boxsched.errors import Conflict
from boxsched.model import JobId, job_text, job_workload, parse_job
from boxsched.node.node import Node
from boxsched.protocol import inbox
from boxsched.protocol.inbox import Resolution
from boxsched.protocol.shards import OrganizationRef
from boxsched.states import JobState, Result, State
from boxsched.store.records import Job, Workload

# Looks while an answer waits until the engine has processed the command, which is durable already.

_form = bodies.Form(AskResolve)


class ResolveRoutes:
    def __init__(self, node: Node, seen: recent.RecentAnswers) -> None:
        self._node = node
        self._store = node.store
        self._seen = seen

    async def resolve(self, request: web.Request) -> web.Response:
        """202 with the workload when the result is durable; 409 if the job's state is known."""
        body = await bodies.read(request)
        stored, job = await self._find(request.match_info["job"])
        key = recent.key_of(request, f"jobs/{job_text(job.id)}/resolve", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        if key is None or not recent.repeated(await self._store.idempotency(key)):
            ask = _form.read(body)
            await self._refuse(organization_of(request), stored, job, ask.result)
            assert job.lease_token is not None
            said = inbox.Resolve(job.id, job.lease_token, ask.result, request[ACTOR], ask.note)
            await commands.store_command(self._node, said, stored, organization_of(request), key)
            stored = await self._resolved(job)
            if key is None:  # with a key it is 202 from here on, because a repetition gets 202
                await self._refuse_other(organization_of(request), stored, job, ask.result)
        answer = replies.encode(answers.workload(stored))
        self._seen.keep(key, 202, answer)
        return replies.json_bytes(answer, 202)

    async def _find(self, text: str) -> tuple[Workload, Job]:
        id_ = parse_job(text)
        if id_ is not None:
            stored = await self._store.workload(job_workload(id_))
            for job in () if stored is None else stored.jobs:
                if job.id == id_:
                    assert stored is not None
                    return stored, job
        raise no_such("job", text)

    async def _refuse(
        self, organization: OrganizationRef, stored: Workload, job: Job, result: Resolution
    ) -> None:
        """Raise Conflict if the scheduler would ignore the result."""
        if job.state is JobState.FINISHED:
            raise Conflict(f"the job has finished: {job.result}")
        if job.state is JobState.WAITING:
            raise Conflict("the job has not begun: stop its workload instead")
        if result is Resolution.AGAIN and stored.state is State.STOPPING:
            raise Conflict("its workload is being stopped: resolve the job as passed or failed")
        await self._refuse_connected(organization, job.id)

    async def _refuse_other(
        self, organization: OrganizationRef, stored: Workload, before: Job, asked: Resolution
    ) -> None:
        """Raise Conflict if the job's worker came back first, or another result was set first."""
        (now,) = [job for job in stored.jobs if job.id == before.id]
        if now.lease_token != before.lease_token:
            if asked is not Resolution.AGAIN:
                raise Conflict("the job has another attempt now")
        elif now.state is not JobState.FINISHED:
            await self._refuse_connected(organization, now.id)
        elif now.result is not Result(asked.value):
            raise Conflict(f"the job has finished: {now.result}")

    async def _refuse_connected(self, organization: OrganizationRef, id_: JobId) -> None:
        books = await self._node.books(organization.shard)
        found = books.job(id_)
        if found is not None and not books.out_of_sight(found[1]):
            raise Conflict(
                "the job's worker is connected and will report its end: stop its workload instead"
            )

    async def _resolved(self, job: Job) -> Workload:
        """Return the workload after the scheduler processed the result, or after a short wait."""

        def holds(found: tuple[Workload, Job]) -> bool:
            _, now = found
            return now.state is JobState.FINISHED or now.lease_token != job.lease_token

        id_ = job_text(job.id)
        stored, _ = await settled(await self._find(id_), lambda: self._find(id_), holds)
        return stored
