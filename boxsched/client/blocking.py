"""The blocking face of the client: the same calls, for scripts without an event loop."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from boxsched.client.asynchronous import DEFAULT_PATIENCE_SECONDS, Client
from boxsched.client.records import (
    Activity,
    Box,
    Event,
    Explanation,
    NewToken,
    Node,
    Page,
    Project,
    SetAside,
    Settings,
    Token,
    Worker,
    Workload,
)

_T = TypeVar("_T")


class BlockingClient:
    """``Client`` without ``await``; see there. For one thread; not from within a running loop."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        *,
        patience: float = DEFAULT_PATIENCE_SECONDS,
    ) -> None:
        self._client = Client(url, token, patience=patience)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._client.__aexit__(kind, error, trace))
        self._runner.close()

    def json(self, *segments: str, **query: str) -> Any:
        return self._run(self._client.json(*segments, **query))

    def projects(self) -> list[Project]:
        return self._run(self._client.projects())

    def project(self, name: str) -> Project:
        return self._run(self._client.project(name))

    def put_project(self, name: str, settings: Settings) -> bool:
        return self._run(self._client.put_project(name, settings))

    def delete_project(self, name: str) -> None:
        self._run(self._client.delete_project(name))

    def build(
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
        return self._run(
            self._client.build(
                project,
                branch=branch,
                tag=tag,
                commit=commit,
                message=message,
                author=author,
                jobs=jobs,
                priority=priority,
                key=key,
            )
        )

    def deploy(
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
        return self._run(
            self._client.deploy(
                project, server, build=build, commit=commit, jobs=jobs, priority=priority, key=key
            )
        )

    def rebuild(self, workload: str, *, key: str | None = None) -> Workload:
        return self._run(self._client.rebuild(workload, key=key))

    def stop(self, workload: str) -> None:
        self._run(self._client.stop(workload))

    def resolve(self, job: str, result: str, *, note: str = "") -> Workload:
        return self._run(self._client.resolve(job, result, note=note))

    def workloads(
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
        return self._run(
            self._client.workloads(
                kind=kind,
                state=state,
                result=result,
                project=project,
                number=number,
                branch=branch,
                server=server,
                limit=limit,
                cursor=cursor,
            )
        )

    def workload(self, workload: str) -> Workload:
        return self._run(self._client.workload(workload))

    def explanation(self, workload: str) -> Explanation:
        return self._run(self._client.explanation(workload))

    def activity(self) -> Activity:
        return self._run(self._client.activity())

    def workers(self) -> list[Worker]:
        return self._run(self._client.workers())

    def boxes(self) -> list[Box]:
        return self._run(self._client.boxes())

    def nodes(self) -> list[Node]:
        return self._run(self._client.nodes())

    def forget_worker(self, worker: str) -> None:
        self._run(self._client.forget_worker(worker))

    def forget_node(self, name: str) -> None:
        self._run(self._client.forget_node(name))

    def set_aside(self) -> list[SetAside]:
        return self._run(self._client.set_aside())

    def set_aside_command(self, command: str) -> SetAside:
        return self._run(self._client.set_aside_command(command))

    def drop_set_aside(self, command: str) -> None:
        self._run(self._client.drop_set_aside(command))

    def create_token(
        self,
        role: str,
        *,
        name: str | None = None,
        expires_in_seconds: float | None = None,
        max_workers: int | None = None,
    ) -> NewToken:
        return self._run(
            self._client.create_token(
                role, name=name, expires_in_seconds=expires_in_seconds, max_workers=max_workers
            )
        )

    def tokens(self) -> list[Token]:
        return self._run(self._client.tokens())

    def revoke_token(self, token: str) -> None:
        self._run(self._client.revoke_token(token))

    def log(self, job: str) -> bytes:
        return self._run(self._client.log(job))

    def metrics(self) -> str:
        return self._run(self._client.metrics())

    def wait(self, workload: str) -> Workload:
        return self._run(self._client.wait(workload))

    def follow_log(self, job: str) -> Iterator[bytes]:
        return self._each(self._client.follow_log(job))

    def events(self, after: str | None = None) -> Iterator[Event]:
        return self._each(aiter(self._client.events(after)))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(work)

    def _each(self, stream: AsyncIterator[_T]) -> Iterator[_T]:
        async def following() -> tuple[_T] | None:
            try:
                return (await anext(stream),)
            except StopAsyncIteration:
                return None

        while (item := self._run(following())) is not None:
            yield item[0]
