"""Read the jobs of builds from a file in the repository; the leading node does this.

Such a build waits in its lane without jobs. The jobs, or the reason why there are none, are stored
and go through the inbox, so they are read only once. If a node dies while it reads, the build stays
unchanged and the next leader reads the file.
"""

import asyncio
import functools
import logging
from collections.abc import Iterator

from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.automation.repositories import Unreadable, read_file, sweep
from boxsched.automation.turns import Turns
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

LOOK_SECONDS = 5.0  # interval of the queries, because a wake-up can be lost
AT_ONCE, AT_ONCE_OF_A_PROJECT = 8, 2  # files read at the same time: by a node, for one project
PAGE = 100
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 16.0  # between the attempts to reach a repository
GIVE_UP_SECONDS = 120.0  # then no further attempt begins; a repository that hangs gets two


class Plans:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known
        self._under_way: dict[WorkloadId, asyncio.Task[None]] = {}
        self._turns = Turns(AT_ONCE, AT_ONCE_OF_A_PROJECT)

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        await asyncio.to_thread(sweep, self._node.options.data)
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
        """Start reading for all builds without jobs that are not being read."""
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
            await self._read(id_)
        except BoxschedError as error:
            log.info("%s still has no jobs: %s", workload_text(id_), error.message)

    async def _read(self, id_: WorkloadId) -> None:
        """Read the file and store its jobs, or why there are none."""
        pauses = doubling(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        now = asyncio.get_running_loop().time
        tried = 0.0  # seconds of reading, without pauses and waiting
        while True:
            build = await self._store.subject(id_)
            if build is None or build.finished_at is not None or build.boxes:
                return
            try:
                async with self._turns.turn(build.project):
                    began = now()
                    try:
                        await self._try(build)
                    finally:
                        tried += now() - began
                return
            except _Failed as failure:
                error = failure
            if error.lasting or tried >= GIVE_UP_SECONDS or not await _pause(pauses):
                await asyncio.shield(self._store.fail_plan(id_, error.reason))
                self._node.wake(SHARD)
                return

    async def _try(self, build: Workload) -> None:
        """Read the file once and store its jobs. Raises _Failed."""
        try:
            settings = (await self._known.fresh(build.project_name)).settings
        except NotFound:
            return
        path, repository = settings.jobs_from, settings.repository
        if path is None or repository is None:
            raise _Failed("the project's settings no longer have jobs_from")
        try:
            found = await read_file(
                repository, ref=_ref(build, settings.default_branch or DEFAULT_BRANCH),
                commit=None if build.from_fork else build.commit, path=path,
                folder=self._node.options.data, access=await self._access(build, repository),
            )  # fmt: skip
            jobs = await asyncio.to_thread(jobs_of, found.data)
        except Unreadable as error:
            raise _Failed(f"{path}: {error.message}", lasting=error.lasting) from None
        except SecretsUnusable as error:
            reason = f"the git credentials cannot be used: {error.message}"
            raise _Failed(f"{path}: {reason}") from None
        except WrongFile as error:
            raise _Failed(f"{path}: {error}") from None
        # A fork's build runs the fork's commit; only the file comes from the target branch.
        commit = build.commit if build.from_fork and build.commit else found.commit
        await asyncio.shield(self._store.plan(build.id, jobs, commit))
        self._node.wake(SHARD)

    async def _access(self, build: Workload, repository: str) -> GitAccess | None:
        """Return what git may use to reach the repository. Raises SecretsUnusable."""
        sealed = (await self._store.sealed_git_credentials([build.project])).get(build.project)
        if sealed is None:
            return None
        found = opened(self._node.vault, build.project, sealed, repository)
        return None if found is None else GitAccess(found.secret, found.origin, found.user)


class _Failed(Exception):
    """Why a build gets no jobs. ``lasting``: another attempt would not help."""

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


def _ref(build: Workload, default_branch: str) -> str:
    """Return the ref that the file is read from. For a fork it is the target branch, so that the
    fork's author cannot change what runs.
    """
    if build.from_fork:
        return f"refs/heads/{build.target_branch or default_branch}"
    return f"refs/tags/{build.tag}" if build.tag is not None else f"refs/heads/{build.branch}"


async def _pause(pauses: Iterator[float]) -> bool:
    """Wait before the next attempt; return False if there were enough."""
    pause = next(pauses, None)
    if pause is None:
        return False
    await asyncio.sleep(pause)
    return True
