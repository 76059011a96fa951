"""Builds whose jobs are in a file of their repository: the leading node reads it.

Such a build waits in its lane with no jobs. The jobs, or the reason why there are none, go through
the inbox and are stored, so that the file is read once, whatever happens to nodes: a node that dies
while it reads leaves the build as it was, for the next leader.
"""

import asyncio
import functools
import logging

from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.automation.repositories import Unreadable, read_file
from boxsched.backoff import doubling
from boxsched.errors import BoxschedError, NotFound, SecretsUnusable
from boxsched.git_access import GitAccess
from boxsched.job_files.reading import WrongFile, jobs_of
from boxsched.model import DEFAULT_BRANCH, WorkloadId, workload_text
from boxsched.node.node import Node
from boxsched.protocol.shards import SHARD
from boxsched.secrets.git_credentials import opened
from boxsched.store.records import Workload

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # a wake-up can be lost; the build cannot
AT_ONCE = 4  # files that a node reads at the same time
PAGE = 100
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 16.0  # between the tries to reach a repository


class Plans:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known
        self._under_way: dict[WorkloadId, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Until it is cancelled. An outage of the database costs one round."""
        try:
            while True:
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._node.plans_due.wait()
                except TimeoutError:
                    pass
                self._node.plans_due.clear()
                if SHARD in self._node.leadership.led:
                    try:
                        await self._look()
                    except BoxschedError as error:
                        log.info("builds without jobs wait: %s", error.message)
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Begin with all builds that have no jobs and are not read already."""
        after = WorkloadId(0)
        while True:
            page = await self._store.unplanned(after, PAGE)
            for id_ in page:
                if id_ not in self._under_way:
                    task = asyncio.create_task(self._plan(id_), name=f"plan of {id_}")
                    self._under_way[id_] = task
                    task.add_done_callback(functools.partial(self._done, id_))
            if len(page) < PAGE:
                return
            after = page[-1]

    def _done(self, id_: WorkloadId, _: asyncio.Task[None]) -> None:
        self._under_way.pop(id_, None)

    async def _plan(self, id_: WorkloadId) -> None:
        try:
            for pause in (*doubling(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS), None):
                async with self._turns:
                    if await self._read(id_, is_last=pause is None):
                        return
                if pause is not None:
                    await asyncio.sleep(pause)  # without a turn: others read meanwhile
        except BoxschedError as error:
            log.info("%s still has no jobs: %s", workload_text(id_), error.message)

    async def _read(self, id_: WorkloadId, *, is_last: bool) -> bool:
        """Read the file and store its jobs, or why there are none. False: it has to be tried again;
        never at the last try."""
        build = await self._store.subject(id_)
        if build is None or build.finished_at is not None or build.boxes:
            return True
        try:
            path, repository = await self._file_of(build)
        except NotFound:
            return True
        if path is None or repository is None:
            await self._fail(id_, "the project has no jobs_from any more")
            return True
        try:
            found = await read_file(
                repository, ref=await self._ref(build), commit=_commit(build), path=path,
                folder=self._node.options.data, access=await self._access(build, repository),
            )  # fmt: skip
            jobs = await asyncio.to_thread(jobs_of, found.data)
        except Unreadable as error:
            if not (error.lasting or is_last):
                return False
            await self._fail(id_, f"{path}: {error.message}")
        except SecretsUnusable as error:
            reason = f"git cannot be given its credentials: {error.message}"
            await self._fail(id_, f"{path}: {reason}")
        except WrongFile as error:
            await self._fail(id_, f"{path}: {error}")
        else:
            # Of a fork's change the file is the target's, the code is its own.
            commit = build.commit if build.from_fork and build.commit else found.commit
            await asyncio.shield(self._store.plan(id_, jobs, commit))
            self._node.wake(SHARD)
        return True

    async def _file_of(self, build: Workload) -> tuple[str | None, str | None]:
        settings = (await self._known.fresh(build.project_name)).settings
        return settings.jobs_from, settings.repository

    async def _access(self, build: Workload, repository: str) -> GitAccess | None:
        """What git may use to reach the repository. Raises SecretsUnusable."""
        sealed = (await self._store.sealed_git_credentials([build.project])).get(build.project)
        if sealed is None:
            return None
        found = opened(self._node.vault, build.project, sealed, repository)
        return None if found is None else GitAccess(found.secret, found.origin, found.user)

    async def _ref(self, build: Workload) -> str:
        """Where the file is read: of a fork's change, on the branch that it would go to."""
        if build.from_fork:
            settings = (await self._known.get(build.project_name)).settings
            branch = build.target_branch or settings.default_branch or DEFAULT_BRANCH
            return f"refs/heads/{branch}"
        return f"refs/tags/{build.tag}" if build.tag is not None else f"refs/heads/{build.branch}"

    async def _fail(self, id_: WorkloadId, reason: str) -> None:
        await asyncio.shield(self._store.fail_plan(id_, reason))
        self._node.wake(SHARD)


def _commit(build: Workload) -> str | None:
    """The commit that was asked for; a stranger's has no say in what runs."""
    return None if build.from_fork else build.commit
