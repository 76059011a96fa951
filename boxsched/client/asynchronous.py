"""The asyncio client: one typed method for each call of the API."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from boxsched import errors
from boxsched.client.artifacts import download
from boxsched.client.deliveries import Deliveries
from boxsched.client.finding import found
from boxsched.client.http import ServiceLine, path
from boxsched.client.logs import follow_log, read_log
from boxsched.client.notifications import Notifications
from boxsched.client.operating import Operating, read
from boxsched.client.projects import Projects
from boxsched.client.records import Activity, Artifact, Artifacts, Explanation, Page, Workload
from boxsched.client.secrets import Secrets
from boxsched.client.sessions import Sessions
from boxsched.client.stream import WORKLOAD_LOOK_SECONDS, EventStream, signal_changes

DEFAULT_PATIENCE_SECONDS = 30.0

_T = TypeVar("_T")


class Client(Projects, Operating, Deliveries, Notifications, Secrets, Sessions):
    """A client of a service. Times are aware datetimes, ids are texts (``w41``, ``w41-2``).

    ``url``: the service's address, or the addresses of several nodes; when a node does not answer,
    the client uses the next one. Without ``url`` or ``token``, the client finds them as the CLI
    does (``finding``): in the environment, or in the data folder of the service on this machine.

    ``organization``: in which calls act, for a token of the instance; None: the token's, or
    ``default``.

    While the service is away, calls are repeated for ``patience`` seconds; then they raise
    ``Unreachable`` or ``errors.StoreAway``. ``on_trouble`` is called with the error of each attempt
    that is repeated.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        *,
        organization: str | None = None,
        patience: float = DEFAULT_PATIENCE_SECONDS,
        on_trouble: Callable[[errors.BoxschedError], None] | None = None,
    ) -> None:
        urls, token = found(url, token)
        self._line = ServiceLine(
            urls, token, patience=patience, organization=organization, on_trouble=on_trouble
        )

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
    def on_trouble(self, callback: Callable[[errors.BoxschedError], None] | None) -> None:
        self._line.on_trouble = callback

    @property
    def skew(self) -> float:
        """Seconds by which the service's clock is ahead of this machine's, from the last answer.

        0 if they differ by less than two seconds. Add it to local times to compare them with the
        service's times.
        """
        return self._line.skew

    async def json(self, *segments: str, **query: str) -> Any:
        """GET a path below ``/api/v1`` and return the decoded JSON with all fields."""
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
        """Submit a build of a branch or a tag. It is durable when this returns.

        ``key``: the Idempotency-Key. Pass your own if another process may repeat the submission.
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
        """Submit a deploy to a server of the project. ``build``: the id of a passed build."""
        body = {
            "server": server,
            "build": build,
            "commit": commit,
            "jobs": jobs,
            "priority": priority,
        }
        return await self._submit(path("projects", project, "deploys"), body, key)

    async def rebuild(self, workload: str, *, key: str | None = None) -> Workload:
        """Submit the same jobs again, as a new workload at the end of its lane."""
        return await self._submit(path("workloads", workload, "rebuild"), None, key)

    async def stop(self, workload: str) -> None:
        """Cancel or stop a workload. Raises Conflict if it has finished."""
        await self._line.call("POST", path("workloads", workload, "stop"), key=_new_key())

    async def reprioritize(self, workload: str, priority: int, *, note: str = "") -> Workload:
        """Change the priority of a waiting workload. Raises Conflict once it holds Boxes."""
        body = {"priority": priority, "note": note}
        return await self._submit(path("workloads", workload, "priority"), body, None)

    async def resolve(self, job: str, result: str, *, note: str = "") -> Workload:
        """Set the result of a job whose worker is away; return its workload.

        ``result``: passed, failed, or again for another attempt. Raises Conflict if the job's state
        is known.
        """
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
        """Return a page of workloads, newest first. ``number`` requires ``project``."""
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
        """Return one workload with its jobs."""
        return await self._get(Workload, path("workloads", workload))

    async def explanation(self, workload: str) -> Explanation:
        """Return why a workload waits, for what, its position and its expected start."""
        return await self._get(Explanation, path("workloads", workload, "explanation"))

    async def activity(self) -> Activity:
        return await self._get(Activity, path("activity"))

    async def log(self, job: str, *, attempt: int | None = None) -> bytes:
        """Return the log of a job's latest attempt, or of another one, as far as it is written,
        unchanged. Raises NotFound if there is no such attempt.
        """
        return await read_log(self._line, job, attempt)

    async def log_with_times(self, job: str) -> bytes:
        """Return the log as text, with the time before each line."""
        query = {"timestamps": "1"}
        return (await self._line.call("GET", path("jobs", job, "log"), query=query))[1]

    async def artifacts(self, job: str) -> tuple[Artifact, ...]:
        """Return the files that a job's last attempt has kept."""
        return (await self._get(Artifacts, path("jobs", job, "artifacts"))).artifacts

    # --- Streams -----------------------------------------------------------------------------

    def follow_log(self, job: str) -> AsyncIterator[bytes]:
        """Yield a job's log as it is written, until the job has ended.

        Begins with the job's latest attempt; a line marks where a later attempt begins. Continues
        after broken connections and restarts of the service.
        """
        return follow_log(self._line, job)

    def download(self, job: str, artifact: Artifact) -> AsyncIterator[bytes]:
        """Yield the content of an artifact; continues after broken connections.

        At the end it is compared with the SHA-256 in ``artifact``.
        """
        return download(self._line, job, artifact)

    def events(self, after: str | None = None) -> EventStream:
        """Return all changes from now on, or after the event ``after``, without a gap."""
        return EventStream(self._line, after)

    async def wait(self, workload: str) -> Workload:
        """Wait until the workload has finished, also over a restart of the service; return it."""
        return await self._wait_until(workload, lambda seen: seen.finished)

    async def wait_for_jobs(self, workload: str) -> Workload:
        """Wait until the workload's jobs are known and return it.

        A build whose jobs are in a file of its repository has none when it is submitted. It still
        has none if it has ended before the file was read.
        """
        return await self._wait_until(workload, lambda seen: bool(seen.jobs) or seen.finished)

    # --- Implementation ----------------------------------------------------------------------

    async def _wait_until(self, workload: str, reached: Callable[[Workload], bool]) -> Workload:
        """Read the workload when it was planned or has finished, and every WORKLOAD_LOOK_SECONDS in
        case a proxy delays events.
        """
        look = asyncio.Event()
        hearing = asyncio.create_task(signal_changes(self._line, workload, look))
        try:
            while not reached(seen := await self.workload(workload)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WORKLOAD_LOOK_SECONDS):
                        await look.wait()
                look.clear()
            return seen
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _submit(
        self, where: str, body: Mapping[str, object] | None, key: str | None
    ) -> Workload:
        said = None if body is None else {k: v for k, v in body.items() if v is not None}
        _, answer = await self._line.call("POST", where, body=said, key=key or _new_key())
        return read(Workload, answer)


def _new_key() -> str:
    return uuid.uuid4().hex
