"""Submissions of builds, deploys, SSH sessions and rebuilds; answered when they are durable."""

from collections.abc import Awaitable, Callable

import attrs
from aiohttp import web

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.auth.rights import Right
from boxsched.api.auth.scope import Scope
from boxsched.api.http import bodies, recent, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.messages import answers
from boxsched.api.messages.requests import AskBuild, AskDeploy, AskSession, Nothing
from boxsched.api.resources.in_scope import has
from boxsched.api.submitting import new_workloads
from boxsched.api.submitting.known_projects import Known, KnownProjects, is_project_name
from boxsched.errors import BoxschedError, Conflict, NotFound
from boxsched.model import Kind, ProjectId, workload_text
from boxsched.node.node import Node
from boxsched.pace import HEAVY_BYTES, HEAVY_JOBS
from boxsched.store.records import (
    IdempotencyKey,
    KeyTaken,
    NewWorkload,
    ProjectChanged,
    Submitted,
    Workload,
)

CHECKS_AT_MOST = 10  # for one submission, while its project's settings keep changing

_build = bodies.Form(AskBuild)
_deploy = bodies.Form(AskDeploy)
_session = bodies.Form(AskSession)
_nothing = bodies.Form(Nothing, Nothing())

Make = Callable[[Known], Awaitable[NewWorkload]]


class SubmissionRoutes:
    def __init__(self, node: Node, known: KnownProjects, seen: recent.RecentAnswers) -> None:
        self._node = node
        self._known = known
        self._seen = seen

    async def build(self, request: web.Request) -> web.Response:
        project, body = _project(request), await bodies.read(request)

        async def make(known: Known) -> NewWorkload:
            return new_workloads.build(known, _build.read(body), self._node.clock.now())

        return await self._submit(request, f"projects/{project}/builds", body, project, make)

    async def deploy(self, request: web.Request) -> web.Response:
        project, body = _project(request), await bodies.read(request)

        async def make(known: Known) -> NewWorkload:
            ask = _deploy.read(body)
            scope = request[CALLER].scope
            if not scope.has_server(ask.server):
                raise no_such("server", ask.server, "server")
            build = None if ask.build is None else await self._find(ask.build, scope, "build")
            seen = known.with_servers(scope.has_server)
            return new_workloads.deploy(seen, ask, build, self._node.clock.now())

        return await self._submit(request, f"projects/{project}/deploys", body, project, make)

    async def session(self, request: web.Request) -> web.Response:
        project, body = _project(request), await bodies.read(request)

        async def make(known: Known) -> NewWorkload:
            ask = _session.read(body)
            scope = request[CALLER].scope
            source = None if ask.build is None else await self._find(ask.build, scope, "build")
            return new_workloads.session(known, ask, source, self._node.clock.now())

        return await self._submit(request, f"projects/{project}/ssh-sessions", body, project, make)

    async def rebuild(self, request: web.Request) -> web.Response:
        """Submit the same jobs again, as a new workload at the end of its lane."""
        body = await bodies.read(request)
        caller = request[CALLER]
        original = await self._find(request.match_info["workload"], caller.scope)
        if original.kind is Kind.DEPLOY:
            caller.require(Right.DEPLOY)
        path = f"workloads/{workload_text(original.id)}/rebuild"
        source = None
        if original.kind is Kind.DEPLOY and original.build is not None:
            source = await self._node.store.subject(original.build)

        async def make(known: Known) -> NewWorkload:
            _nothing.read(body)
            if len(original.jobs) >= HEAVY_JOBS:
                await self._node.pace.step()
            if known.project.id != original.project:
                raise Conflict("its project was deleted")
            return new_workloads.rebuild(known, original, source, self._node.clock.now())

        try:
            return await self._submit(request, path, body, original.project_name, make)
        except NotFound:
            raise Conflict("its project was deleted") from None

    async def _submit(
        self, request: web.Request, path: str, body: bytes, project: str, make: Make
    ) -> web.Response:
        """Submit; or return the first answer for the key, even if settings have changed since."""
        key = recent.key_of(request, path, body)
        organization = organization_of(request).id
        try:
            known = await self._known.get(project, organization)
            if self._seen.knows(key, known.project.id):
                known = await self._known.fresh(
                    project, organization
                )  # the name may belong to a new project
            again = self._seen.again(key, known.project.id)
            if again is not None:
                return again
            if len(body) >= HEAVY_BYTES:
                await self._node.pace.step()
            return await self._new(known, make, key, request[ACTOR])
        except BoxschedError as refusal:
            # The store checks the key in the same transaction as the submission. A submission that
            # is refused here may have been accepted earlier with this key.
            if key is None or refusal.status >= 500:
                raise
            # The project itself was deleted, and no new one has its name.
            gone = isinstance(refusal, NotFound) and refusal.field is None
            before = await self._node.store.idempotency(key, living=not gone)
            if before is None:
                raise
        return await self._again(before, key)

    async def _new(
        self, known: Known, make: Make, key: IdempotencyKey | None, submitted_by: str
    ) -> web.Response:
        """Check and store; repeat if the project's settings changed in between."""
        project, organization = known.project.name, known.project.organization
        for _ in range(CHECKS_AT_MOST):
            try:
                new = await make(known)
                new_workloads.within_limits(new, known.project.max_boxes, known.plan)
            except BoxschedError as refusal:
                if refusal.status >= 500:
                    raise
                before, known = known, await self._known.fresh(project, organization)
                if known.version == before.version:
                    raise
                continue  # the settings that refused it were outdated
            new = attrs.evolve(new, idempotency=key, submitted_by=submitted_by)
            outcome = await self._node.submit(new)
            if isinstance(outcome, Submitted) and not outcome.repeated:
                if len(new.jobs) >= HEAVY_JOBS:
                    await self._node.pace.step()
                answer = answers.registered(new, project, outcome)
                return self._created(answer, key, new.project)
            if not isinstance(outcome, ProjectChanged):
                return await self._again(outcome, key)
            known = await self._known.fresh(project, organization)
        raise Conflict("the project's settings keep changing: try again")

    async def _again(
        self, before: Submitted | KeyTaken, key: IdempotencyKey | None
    ) -> web.Response:
        """Return the first answer, made from the stored workload."""
        if isinstance(before, KeyTaken):
            raise Conflict(recent.KEY_TAKEN)
        stored = await self._node.store.subject(before.id)
        if stored is None:
            raise NotFound("the workload of this Idempotency-Key no longer exists")
        return self._created(answers.registered_again(stored), key, stored.project)

    def _created(
        self, answer: answers.WorkloadAnswer, key: IdempotencyKey | None, project: ProjectId
    ) -> web.Response:
        body = replies.encode(answer)
        location = f"/api/v1/workloads/{answer.id}"
        self._seen.keep(key, 201, body, location, project)
        return replies.created(body, location)

    async def _find(self, text: str, scope: Scope, field: str | None = None) -> Workload:
        """Return a workload. Raises NotFound also for one that is not in scope."""
        store = self._node.store
        found = await new_workloads.subject(store, text, field)
        if not has(scope, found):
            await new_workloads.missing(store, text, found.id, field)
        return found


def _project(request: web.Request) -> str:
    """Return the path's project, which may not exist. Raises NotFound for an invalid name."""
    name = request.match_info["project"]
    if not is_project_name(name):
        raise no_such("project", name)
    return name
