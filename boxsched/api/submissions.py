"""Builds, deploys, SSH sessions and rebuilds: checked, stored, and answered when durable."""

from collections.abc import Awaitable, Callable

import attrs
from aiohttp import web

from boxsched.api import answers, asked, bodies, recent, replies
from boxsched.api.known import Known, KnownProjects
from boxsched.api.schema import AskBuild, AskDeploy, AskSession, Nothing
from boxsched.errors import Conflict, NotFound
from boxsched.model import workload_text
from boxsched.node import Node
from boxsched.store.values import (
    IdempotencyKey,
    KeyTaken,
    NewWorkload,
    ProjectChanged,
    Submitted,
    Workload,
)

CHECKS_AT_MOST = 10  # of one submission, while its project's settings keep changing

_build = bodies.Form(AskBuild)
_deploy = bodies.Form(AskDeploy)
_session = bodies.Form(AskSession)
_nothing = bodies.Form(Nothing, Nothing())

Make = Callable[[Known], Awaitable[NewWorkload]]


class Submissions:
    def __init__(self, node: Node, known: KnownProjects, seen: recent.RecentAnswers) -> None:
        self._node = node
        self._known = known
        self._seen = seen

    async def build(self, request: web.Request) -> web.Response:
        project = request.match_info["project"]
        body = await bodies.read(request)
        key = recent.key_of(request, f"projects/{project}/builds", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        ask = _build.read(body)

        async def make(known: Known) -> NewWorkload:
            return asked.build(known, ask, self._node.clock.now())

        return await self._submit(project, make, key)

    async def deploy(self, request: web.Request) -> web.Response:
        project = request.match_info["project"]
        body = await bodies.read(request)
        key = recent.key_of(request, f"projects/{project}/deploys", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        ask = _deploy.read(body)

        async def make(known: Known) -> NewWorkload:
            build = None if ask.build is None else await self._find(ask.build, "build")
            return asked.deploy(known, ask, build, self._node.clock.now())

        return await self._submit(project, make, key)

    async def session(self, request: web.Request) -> web.Response:
        project = request.match_info["project"]
        body = await bodies.read(request)
        key = recent.key_of(request, f"projects/{project}/ssh-sessions", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        ask = _session.read(body)

        async def make(known: Known) -> NewWorkload:
            source = None if ask.build is None else await self._find(ask.build, "build")
            return asked.session(known, ask, source, self._node.clock.now())

        return await self._submit(project, make, key)

    async def rebuild(self, request: web.Request) -> web.Response:
        """The same again, as a new workload at the end of its lane."""
        body = await bodies.read(request)
        original = await self._find(request.match_info["workload"])
        key = recent.key_of(request, f"workloads/{workload_text(original.id)}/rebuild", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        _nothing.read(body)

        async def make(known: Known) -> NewWorkload:
            if known.project.id != original.project:
                raise Conflict("its project was deleted")
            return asked.rebuild(known, original, self._node.clock.now())

        try:
            return await self._submit(original.project_name, make, key)
        except NotFound:
            raise Conflict("its project was deleted") from None

    async def _submit(self, name: str, make: Make, key: IdempotencyKey | None) -> web.Response:
        """Check against the project's settings and store, until both speak of one version."""
        known = await self._known.get(name)
        for _ in range(CHECKS_AT_MOST):
            new = await make(known)
            asked.within_limits(new, known.project.max_boxes, self._known.plan)
            if key is not None:
                new = attrs.evolve(new, idempotency=key)
            outcome = await self._node.submit(new)
            if isinstance(outcome, Submitted):
                return await self._created(new, name, outcome, key)
            if isinstance(outcome, KeyTaken):
                raise Conflict(recent.KEY_TAKEN)
            assert isinstance(outcome, ProjectChanged)
            known = await self._known.fresh(name)
        raise Conflict("the project's settings keep changing: try again")

    async def _created(
        self, new: NewWorkload, project: str, done: Submitted, key: IdempotencyKey | None
    ) -> web.Response:
        if done.repeated:
            stored = await self._node.store.workload(done.id)
            if stored is None:
                raise NotFound("what was created under this Idempotency-Key is gone")
            answer = answers.registered_again(stored)
        else:
            answer = answers.registered(new, project, done)
        body = replies.encode(answer)
        location = f"/api/v1/workloads/{answer.id}"
        self._seen.keep(key, 201, body, location)
        return replies.created(body, location)

    async def _find(self, text: str, field: str | None = None) -> Workload:
        return await asked.find(self._node.store, text, field)
