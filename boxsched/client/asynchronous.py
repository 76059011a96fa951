"""The asyncio client: one typed method for each call of the API."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from boxsched import errors
from boxsched.client.deliveries import Deliveries
from boxsched.client.finding import found
from boxsched.client.http import Line, path
from boxsched.client.logs import follow_log, read_log
from boxsched.client.notifications import Notifications
from boxsched.client.operating import Operating, read
from boxsched.client.projects import Projects
from boxsched.client.records import Activity, Explanation, Page, Workload
from boxsched.client.secrets import Secrets
from boxsched.client.stream import WORKLOAD_LOOK_SECONDS, EventStream, hear_of_end

DEFAULT_PATIENCE_SECONDS = 30.0

_T = TypeVar("_T")


class Client(Projects, Operating, Deliveries, Notifications, Secrets):
    """A service, seen from Python. Times are aware datetimes, ids are texts (``w41``, ``w41-2``).

    ``url`` is the service's address, or the addresses of several of its nodes: when one does not
    answer, the next is asked. What is not given is found as the CLI finds it (``finding``): in the
    environment, or through the data folder of the service on this machine.

    While the service is away calls are repeated for ``patience`` seconds; then they raise
    ``Unreachable`` or ``errors.StoreAway``. ``on_trouble`` is called with the error of each attempt
    that is made again.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        *,
        patience: float = DEFAULT_PATIENCE_SECONDS,
        on_trouble: Callable[[errors.BoxschedError], None] | None = None,
    ) -> None:
        urls, token = found(url, token)
        self._line = Line(urls, token, patience=patience, on_trouble=on_trouble)

    async def __aenter__(self) -> Self:
        await self._line.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._line.__aexit__(kind, error, trace)

    @property
    def patience(self) -> float:
        return self._line.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._line.patience = seconds

    @property
    def on_trouble(self) -> Callable[[errors.BoxschedError], None] | None:
        return self._line.on_trouble

    @on_trouble.setter
    def on_trouble(self, told: Callable[[errors.BoxschedError], None] | None) -> None:
        self._line.on_trouble = told

    @property
    def skew(self) -> float:
        """Seconds that the service's clock is ahead of this machine's, by its last answer; 0 where
        they differ by less than two seconds. Its times are compared with that clock."""
        return self._line.skew

    async def json(self, *segments: str, **query: str) -> Any:
        """The JSON answer to a GET of this path below ``/api/v1``, with every field."""
        return await self._get(Any, path(*segments), query)

    # --- Submissions -------------------------------------------------------------------------

    async def build(
        self,
        project: str,
        *,
        branch: str | None = None,
        tag: str | None = None,
        commit: str | None = None,
        message: str | None = None,
        author: str | None = None,
        jobs: Sequence[Mapping[str, Any]] | None = None,
        priority: int | None = None,
        key: str | None = None,
    ) -> Workload:
        """A new build of a branch or a tag; durable when this returns.

        ``key`` is the Idempotency-Key: give your own to make a repetition by another process
        harmless too.
        """
        body = {
            "branch": branch,
            "tag": tag,
            "commit": commit,
            "message": message,
            "author": author,
            "jobs": jobs,
            "priority": priority,
        }
        return await self._submit(path("projects", project, "builds"), body, key)

    async def deploy(
        self,
        project: str,
        server: str,
        *,
        build: str | None = None,
        commit: str | None = None,
        jobs: Sequence[Mapping[str, Any]] | None = None,
        priority: int | None = None,
        key: str | None = None,
    ) -> Workload:
        """A new deploy to a server of the project, of a passed build if ``build`` names one."""
        body = {
            "server": server,
            "build": build,
            "commit": commit,
            "jobs": jobs,
            "priority": priority,
        }
        return await self._submit(path("projects", project, "deploys"), body, key)

    async def rebuild(self, workload: str, *, key: str | None = None) -> Workload:
        """Run the same jobs again, as a new workload at the end of its lane."""
        return await self._submit(path("workloads", workload, "rebuild"), None, key)

    async def stop(self, workload: str) -> None:
        """Cancel or stop a workload; raises Conflict if it has finished."""
        await self._line.call("POST", path("workloads", workload, "stop"), key=_new_key())

    async def reprioritize(self, workload: str, priority: int, *, note: str = "") -> Workload:
        """Give a waiting workload another priority; raises Conflict once it holds Boxes."""
        body = {"priority": priority, "note": note}
        return await self._submit(path("workloads", workload, "priority"), body, None)

    async def resolve(self, job: str, result: str, *, note: str = "") -> Workload:
        """Say that a job whose worker is away passed or failed, or give it another attempt
        (``again``). Returns its workload; raises Conflict where the job needs no such word."""
        return await self._submit(
            path("jobs", job, "resolve"), {"result": result, "note": note}, None
        )

    # --- Reading -----------------------------------------------------------------------------

    async def workloads(
        self,
        *,
        kind: str | None = None,
        state: str | None = None,
        result: str | None = None,
        project: str | None = None,
        number: int | None = None,
        branch: str | None = None,
        server: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """A page of workloads, newest first; ``number`` goes with ``project`` alone."""
        asked = {
            "kind": kind,
            "state": state,
            "result": result,
            "project": project,
            "number": None if number is None else str(number),
            "branch": branch,
            "server": server,
            "limit": None if limit is None else str(limit),
            "cursor": cursor,
        }
        query = {name: value for name, value in asked.items() if value is not None}
        return await self._get(Page, path("workloads"), query)

    async def workload(self, workload: str) -> Workload:
        """One workload, with its jobs."""
        return await self._get(Workload, path("workloads", workload))

    async def explanation(self, workload: str) -> Explanation:
        """Why it waits, for what, its position, its expected start."""
        return await self._get(Explanation, path("workloads", workload, "explanation"))

    async def activity(self) -> Activity:
        return await self._get(Activity, path("activity"))

    async def log(self, job: str) -> bytes:
        """The log of a job's latest attempt, as far as it is written; the bytes as the job wrote
        them."""
        return await read_log(self._line, job)

    # --- Streams -----------------------------------------------------------------------------

    def follow_log(self, job: str) -> AsyncIterator[bytes]:
        """A job's log as it is written, until the job has ended.

        Begins with the job's latest attempt; a line says where a later one begins. Goes on over
        broken connections and restarts of the service.
        """
        return follow_log(self._line, job)

    def events(self, after: str | None = None) -> EventStream:
        """Every change from now, or from behind the event ``after``, without a gap."""
        return EventStream(self._line, after)

    async def wait(self, workload: str) -> Workload:
        """The workload, when it has finished; goes on over a restart of the service.

        An event says when to look; without one it looks every WORKLOAD_LOOK_SECONDS, so that a
        stream that broke, or that a proxy holds back, costs only time.
        """
        look = asyncio.Event()
        hearing = asyncio.create_task(hear_of_end(self._line, workload, look))
        try:
            while not (seen := await self.workload(workload)).finished:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WORKLOAD_LOOK_SECONDS):
                        await look.wait()
                look.clear()
            return seen
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    # --- How it is done ----------------------------------------------------------------------

    async def _submit(
        self, where: str, body: Mapping[str, object] | None, key: str | None
    ) -> Workload:
        said = None if body is None else {k: v for k, v in body.items() if v is not None}
        _, answer = await self._line.call("POST", where, body=said, key=key or _new_key())
        return read(Workload, answer)


def _new_key() -> str:
    return uuid.uuid4().hex
