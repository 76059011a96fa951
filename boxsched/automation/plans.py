"""Read the jobs of builds from a file in the repository; the leading node does this.

Such a build waits in its lane without jobs. The jobs, or the reason why there are none, are stored
and go through the inbox, so they are read only once. If a node dies while it reads, the build stays
unchanged and the next leader reads the file.
"""

import asyncio
import logging
from collections.abc import Sequence

from boxsched.api.submitting.deliveries import BY as WEBHOOK
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.automation import LOOK_SECONDS
from boxsched.automation.backlog import NONE, Backlog, Reading
from boxsched.automation.git_errors import Unreadable
from boxsched.automation.repositories import read_file, sweep
from boxsched.backoff import doubling
from boxsched.errors import BoxschedError, NotFound, SecretsUnusable
from boxsched.git_access import GitAccess
from boxsched.job_files.reading import WrongFile, jobs_of
from boxsched.model import DEFAULT_BRANCH, ProjectId, WorkloadId, workload_text
from boxsched.node.node import Node
from boxsched.protocol.shards import SHARD
from boxsched.secrets.git_credentials import opened
from boxsched.store.records import Workload

log = logging.getLogger(__name__)

PAGE = 100  # projects in one query
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 16.0  # between the attempts to reach a repository
GIVE_UP_SECONDS = 120.0  # then no further attempt begins; a repository that hangs gets two
# pauses between checks whether a failed build has ended
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.02, 1.0


class Plans:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known
        self._backlog = Backlog()
        self._tasks: set[asyncio.Task[None]] = set()
        self._place = ProjectId(0)  # the project that had the last turn

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        await asyncio.to_thread(sweep, self._node.options.data)
        now = asyncio.get_running_loop().time
        try:
            while True:
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._node.plans_due.wait()
                except TimeoutError:
                    pass
                self._node.plans_due.clear()
                began = now()
                if SHARD in self._node.leadership.led:
                    try:
                        await self._look()
                    except BoxschedError as error:
                        log.info("builds without jobs wait: %s", error.message)
                else:
                    self._backlog.clear()
                await asyncio.sleep(min(now() - began, LOOK_SECONDS))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Begin to read files until there is no free place or no file, starting after the project
        that had the last turn.
        """
        some = True
        while some and not self._backlog.is_full:
            some = self._place != 0
            while not self._backlog.is_full:
                page = await self._store.unplanned_projects(self._place, PAGE)
                some |= await self._begin(page)
                if len(page) < PAGE:
                    break
            else:
                return
            self._place = ProjectId(0)

    async def _begin(self, projects: Sequence[ProjectId]) -> bool:
        "Begin one file of each project while there are free places; return whether there was"
        "any."
        backlog, some = self._backlog, False
        behind = {one: backlog.begun(one) for one in projects if backlog.may_begin(one)}
        firsts = await self._store.first_unplanned(behind)
        for project in projects:
            if backlog.is_full:
                break
            self._place = project
            if backlog.has_place(project):
                some |= await self._begin_one(project, firsts.get(project))
        return some

    async def _begin_one(self, project: ProjectId, first: WorkloadId | None) -> bool:
        reading = self._backlog.due(project, asyncio.get_running_loop().time())
        if reading is None:
            busy = self._backlog.busy(project)
            if first in busy:
                found = await self._store.unplanned(project, NONE, len(busy) + 1)
                first = next((id_ for id_ in found if id_ not in busy), None)
                if first is None:
                    self._backlog.skip(project, max(busy))
            if first is None:
                return False
            pauses = doubling(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
            reading = Reading(first, project, pauses)
            self._backlog.begin(reading)
        task = asyncio.create_task(self._plan(reading), name=f"plan of {reading.id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a job file was not read", exc_info=task.exception())
        self._node.plans_due.set()

    async def _plan(self, reading: Reading) -> None:
        """Try to read the file once, and store its jobs, or why there are none."""
        pause: float | None = LOOK_SECONDS  # in any case it is not tried again at once
        troubled = False
        try:
            pause, troubled = await self._read(reading)
        except BoxschedError as error:
            log.info("%s still has no jobs: %s", workload_text(reading.id), error.message)
        finally:
            if pause is None:
                self._backlog.done(reading, troubled=troubled)
            else:
                loop = asyncio.get_running_loop()
                self._backlog.rest(reading, loop.time() + pause, troubled=troubled)
                loop.call_later(pause, self._node.plans_due.set)

    async def _read(self, reading: Reading) -> tuple[float | None, bool]:
        """Return the pause before the next attempt (None: no next one), and whether the repository
        did not answer.
        """
        build = await self._store.subject(reading.id)
        if build is None or build.finished_at is not None or build.boxes:
            return None, False
        now = asyncio.get_running_loop().time
        began = now()
        try:
            await self._try(build)
        except _Failed as failure:
            error = failure
        else:
            return None, False
        reading.tried += now() - began
        if not error.lasting and reading.tried < GIVE_UP_SECONDS:
            pause = next(reading.pauses, None)
            if pause is not None:
                return pause, True
        commit = None if error.commit is None else _runs(build, error.commit)
        await asyncio.shield(self._store.fail_plan(reading.id, error.reason, commit))
        await self._node.wake_for(build.organization)
        await self._until_ended(reading.id)
        return None, not error.lasting

    async def _until_ended(self, id_: WorkloadId) -> None:
        """Wait until the engine has ended the build, because otherwise its file would be read
        again.
        """
        for pause in doubling(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS):
            build = await self._store.subject(id_)
            if build is None or build.finished_at is not None:
                return
            await asyncio.sleep(pause)

    async def _try(self, build: Workload) -> None:
        """Read the file once and store its jobs. Raises _Failed."""
        try:
            settings = (await self._known.fresh(build.project_name, build.organization)).settings
        except NotFound:
            return
        path, repository = settings.jobs_from, settings.repository
        commit: str | None = None  # known once git has found it
        if path is None or repository is None:
            raise _Failed("the project's settings no longer have jobs_from")
        try:
            found = await read_file(
                repository, ref=_ref(build, settings.default_branch or DEFAULT_BRANCH),
                commit=None if build.from_fork else build.commit, path=path,
                folder=self._node.options.data, access=await self._access(build, repository),
            )  # fmt: skip
            commit = found.commit
            jobs = await asyncio.to_thread(jobs_of, found.data)
        except Unreadable as error:
            # A mistyped name is reported at once. But a commit that a code host has just announced
            # may not be on all of its machines yet.
            lasting = error.lasting or (error.missing and build.submitted_by != WEBHOOK)
            raise _Failed(
                f"{path}: {error.message}", lasting=lasting, commit=error.commit
            ) from None
        except SecretsUnusable as error:
            reason = f"the git credentials cannot be used: {error.message}"
            raise _Failed(f"{path}: {reason}") from None
        except WrongFile as error:
            raise _Failed(f"{path}: {error}", commit=commit) from None
        await asyncio.shield(self._store.plan(build.id, jobs, _runs(build, found.commit)))
        await self._node.wake_for(build.organization)

    async def _access(self, build: Workload, repository: str) -> GitAccess | None:
        """Return what git may use to reach the repository. Raises SecretsUnusable."""
        sealed = (await self._store.sealed_git_credentials([build.project])).get(build.project)
        if sealed is None:
            return None
        found = opened(self._node.vault, build.project, sealed, repository)
        return None if found is None else GitAccess(found.secret, found.origin, found.user)


class _Failed(Exception):
    """Why a build gets no jobs. ``lasting``: another attempt would not help. ``commit``: the full
    hash of the commit that was read, if it was found.
    """

    def __init__(self, reason: str, *, lasting: bool = True, commit: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.commit = commit


def _runs(build: Workload, found: str) -> str:
    """Return the commit that the build runs. ``found``: the commit that the file was read from.

    A fork's build runs the fork's commit; only the file comes from the target branch.
    """
    return build.commit if build.from_fork and build.commit else found


def _ref(build: Workload, default_branch: str) -> str:
    """Return the ref that the file is read from. For a fork it is the target branch, so that the
    fork's author cannot change what runs.
    """
    if build.from_fork:
        return f"refs/heads/{build.target_branch or default_branch}"
    return f"refs/tags/{build.tag}" if build.tag is not None else f"refs/heads/{build.branch}"
