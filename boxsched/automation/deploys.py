"""Automatic deploys: deploy each passed build of a branch to the servers that follow the branch.

When the build ends, the engine stores the servers to deploy to (``deploy_due``). The node that
leads submits each deploy like any client, with an idempotency key of the build and the server. Then
it deletes the row. If a node dies in between, the row stays, and the deploy is not submitted twice.
"""

import asyncio
import logging

import attrs

from boxsched.api.messages.requests import AskDeploy
from boxsched.api.submitting import new_workloads
from boxsched.api.submitting.known_projects import Known, KnownProjects
from boxsched.automation import LOOK_SECONDS
from boxsched.errors import BoxschedError, Invalid, NotFound
from boxsched.model import DEFAULT_BRANCH, workload_text
from boxsched.node.node import Node
from boxsched.protocol.batches import DeployDue
from boxsched.protocol.shards import SHARD
from boxsched.store.records import IdempotencyKey, NewWorkload, ProjectChanged, Submitted, Workload

log = logging.getLogger(__name__)

AT_ONCE = 100
TRIES = 10  # for one deploy, while the project's settings keep changing
BY = "automatic"


class AutomaticDeploys:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._node.deploys_due.wait()
            except TimeoutError:
                pass
            self._node.deploys_due.clear()
            if SHARD not in self._node.leadership.led:
                continue
            try:
                while await self.run_once():
                    pass
            except BoxschedError as error:
                log.info("automatic deploys wait: %s", error.message)

    async def run_once(self) -> bool:
        """Process the oldest rows; return whether there may be more."""
        found = await self._store.deploys_due(AT_ONCE)
        for due in found:
            await self._deploy(due)
            await self._store.drop_due(due)
        return len(found) == AT_ONCE

    async def _deploy(self, due: DeployDue) -> None:
        build = await self._store.subject(due.build)
        if build is None:
            return
        for _ in range(TRIES):
            try:
                known = await self._known.fresh(build.project_name, build.organization)
                if not await self._is_wanted(known, due, build):
                    return
                outcome = await self._node.submit(self._new(known, due, build))
            except (Invalid, NotFound) as error:
                log.warning(
                    "%s is not deployed to %r automatically: %s",
                    workload_text(due.build), due.server, error.message,
                )  # fmt: skip
                return
            if isinstance(outcome, Submitted) or not isinstance(outcome, ProjectChanged):
                return
        raise BoxschedError("the project's settings keep changing")

    async def _is_wanted(self, known: Known, due: DeployDue, build: Workload) -> bool:
        """Whether the server still follows the branch and has no newer build."""
        server = known.settings.servers.get(due.server)
        if known.project.id != build.project or server is None or build.branch is None:
            return False
        follows = server.branch or known.settings.default_branch or DEFAULT_BRANCH
        if server.strategy != "automatic" or follows != build.branch:
            return False
        return not await self._store.newer_there(build.project, due.server, build.id)

    def _new(self, known: Known, due: DeployDue, build: Workload) -> NewWorkload:
        asked = AskDeploy(server=due.server, build=workload_text(due.build))
        new = new_workloads.deploy(known, asked, build, self._node.clock.now())
        new_workloads.within_limits(new, known.project.max_boxes, known.plan)
        key = IdempotencyKey(BY, f"{due.build}/{due.server}", "")
        return attrs.evolve(new, automatic=True, idempotency=key, submitted_by=BY)
