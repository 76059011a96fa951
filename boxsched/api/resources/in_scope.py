"""Whether what a path names is in the scope of the caller's token; if not, it does not exist (404).

Only tokens with limits are checked, and all where there are several organizations. Handlers need no
checks of their own for what their path names;
they check what a body names, and leave out of lists what is not in scope.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from aiohttp import web

from boxsched.api.auth.scope import Scope
from boxsched.api.http import paging
from boxsched.api.http.guard import CheckScope
from boxsched.api.http.not_found import no_such
from boxsched.api.submitting import new_workloads
from boxsched.errors import Forbidden
from boxsched.model import JobId, ProjectId, WorkloadId, job_workload, parse_job, parse_workload
from boxsched.protocol.shards import Pause
from boxsched.store.records import Concern, Workload
from boxsched.store.store import Store

_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")

# Parameters of paths that name nothing of a project, or only something within it.
_WITHOUT_SCOPE = frozenset(
    {"connection", "id", "node", "organization", "path", "provider", "secret", "sha256", "tunnel",
     "version", "worker"}
)  # fmt: skip


REMEMBERED_SECONDS = 10.0
REMEMBERED_AT_MOST = 10_000
PAGES_READ = 20  # of the store, for one page of a caller with limits

T = TypeVar("T")
P = TypeVar("P")  # a place in a list


def has(scope: Scope, workload: Workload) -> bool:
    mine = workload.organization == scope.organization.id
    return mine and scope.has(workload.project_name, workload.server)


class Concerns:
    """The organizations, projects and servers of workloads, which never change.

    They are read again after REMEMBERED_SECONDS, because a restored backup may use an id again.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._known: dict[WorkloadId, tuple[float, Concern]] = {}  # oldest first

    async def of(self, id_: WorkloadId) -> Concern | None:
        """Return whose a workload is; None if there is none."""
        now = self._monotonic()
        known = self._known.get(id_)
        if known is not None and now - known[0] < REMEMBERED_SECONDS:
            return known[1]
        found = await self._store.concerns(id_)
        self._known.pop(id_, None)
        if found is not None:
            self._known[id_] = now, found
            if len(self._known) > REMEMBERED_AT_MOST:
                del self._known[next(iter(self._known))]
        return found


class InScope:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._concerns = Concerns(store)
        self._checks: Mapping[str, CheckScope] = {
            "project": self._project,
            "workload": self._workload,
            "job": self._job,
            "ghost": self._ghost,
            "notification": self._notification,
            "command": self._command,
            "pause": self._pause,
        }

    def check_of(self, path: str) -> CheckScope | None:
        """Return the check of a route's path; None if it names nothing that has a scope.

        Raises KeyError for an unknown parameter, so that no route is forgotten.
        """
        names = [name for name in _PARAMETER.findall(path) if name not in _WITHOUT_SCOPE]
        checks = [self._checks[name] for name in names]
        assert len(checks) <= 1, f"{path}: two parts that have a scope"
        return checks[0] if checks else None

    async def _project(self, request: web.Request, scope: Scope) -> None:
        name = request.match_info["project"]
        if not scope.has_project(name):
            raise no_such("project", name)

    async def _workload(self, request: web.Request, scope: Scope) -> None:
        text = request.match_info["workload"]
        id_ = parse_workload(text)
        if id_ is not None and not await self._includes(scope, id_):
            await new_workloads.missing(self._store, text, id_, None)

    async def _job(self, request: web.Request, scope: Scope) -> None:
        text = request.match_info["job"]
        id_ = parse_job(text)
        if id_ is not None and not await self._includes(scope, job_workload(id_)):
            raise no_such("job", text)

    async def _ghost(self, request: web.Request, scope: Scope) -> None:
        text = request.match_info["ghost"]
        for one in await self._store.ghosts(scope.organization.id):
            if str(one.id) == text and not await self._includes(
                scope, job_workload(JobId(one.job))
            ):
                raise no_such("ghost", text, hint="; `boxsched workers ghosts` shows their IDs")

    async def _notification(self, request: web.Request, scope: Scope) -> None:
        text = request.match_info["notification"]
        id_ = paging.number(text)
        found = (
            []
            if id_ is None
            else await self._store.notifications(None, id_ + 1, 1, scope.organization.id)
        )
        mine = [one for one in found if one.id == id_]
        if not mine or not await self._includes(scope, mine[0].workload):
            raise no_such("notification", text)

    async def _command(self, request: web.Request, scope: Scope) -> None:
        text = request.match_info["command"]
        id_ = paging.number(text)
        found = (
            None if id_ is None else await self._store.set_aside_one(id_, scope.organization.shard)
        )
        if found is not None and not (scope.whole or await self._includes(scope, found.workload)):
            raise no_such("command", text)

    async def _pause(self, request: web.Request, scope: Scope) -> None:
        """A pause that covers more than the scope can be seen, but not changed."""
        name = request.match_info["pause"]
        for one in await self._store.pauses(scope.organization.id):
            if one.name == name:
                project = await pause_project(self._store, one)
                if not sees_pause(scope, one, project):
                    raise no_such("pause", name)
                require_pause(scope, project, one.server, one.branch)

    async def _includes(self, scope: Scope, id_: WorkloadId | None) -> bool:
        found = None if id_ is None else await self._concerns.of(id_)
        if found is None or found.organization != scope.organization.id:
            return False
        return scope.has(found.project, found.server)


async def workloads_in(
    store: Store, scope: Scope, ids: Iterable[WorkloadId | None]
) -> Callable[[WorkloadId | None], bool]:
    """Return a function that says which of these workloads are in scope.

    Without limits all are, also those that do not exist (any more).
    """
    if scope.whole:  # the lists are of its organization
        return lambda _: True
    seen: set[WorkloadId | None] = set()
    async for found in store.workloads_in_parts(sorted({id_ for id_ in ids if id_ is not None})):
        seen |= {one.id for one in found if has(scope, one)}
    return seen.__contains__


async def page_in_scope(
    scope: Scope,
    read: Callable[[P | None], Awaitable[tuple[list[T], P | None]]],
    place: Callable[[T], P],
    after: P | None,
    limit: int,
) -> tuple[list[T], P | None]:
    """Return up to ``limit`` rows, and the place after which the next page begins; None: the end.

    ``read``: returns the rows in scope of a page of the store, and the place after it; it begins
    after a place (None: with the first page). With limits,
    it is called until enough is found, at most PAGES_READ times: so a page can still be short.
    """
    found: list[T] = []
    for _ in range(1 if scope.whole else PAGES_READ):
        rows, after = await read(after)
        found += rows
        if after is None or len(found) >= limit:
            break
    if len(found) > limit:
        return found[:limit], place(found[limit - 1])
    return found, after


async def pause_project(store: Store, pause: Pause) -> str | None:
    if pause.project is None:
        return None
    names = await store.project_names([ProjectId(pause.project)])
    return names.get(pause.project)


def sees_pause(scope: Scope, pause: Pause, project: str | None) -> bool:
    """Whether the pause can cover something that is in scope. ``project``: its project's name."""
    return pause.project is None or scope.has(project, pause.server)


def require_pause(
    scope: Scope, project: str | None, server: str | None, branch: str | None
) -> None:
    """Raise Forbidden if such a pause covers more than the scope."""
    if not scope.has_all(project, server, branch):
        raise Forbidden(
            "this token is limited to some projects or servers, and the pause covers more: it "
            "needs a token without these limits"
        )
