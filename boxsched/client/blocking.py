"""The blocking client: the calls of ``Client`` without ``await``, for scripts without a loop."""

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from boxsched.client.asynchronous import DEFAULT_PATIENCE_SECONDS, Client

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Method(Generic[_P, _T]):
    """A descriptor: a method with the parameters and the docstring of a method of ``Client``.

    Type checkers and editors see the parameters and the result.
    """

    def __init__(self, method: Callable[Concatenate["BlockingClient", _P], _T]) -> None:
        self._method = method

    @overload
    def __get__(
        self, client: None, owner: type
    ) -> Callable[Concatenate["BlockingClient", _P], _T]: ...

    @overload
    def __get__(self, client: "BlockingClient", owner: type) -> Callable[_P, _T]: ...

    def __get__(self, client: "BlockingClient | None", owner: type) -> Callable[..., _T]:
        return self._method if client is None else functools.partial(self._method, client)


def _call(
    call: Callable[Concatenate[Client, _P], Coroutine[Any, Any, _T]],
) -> _Method[_P, _T]:
    """Make a method that waits for the result of the client's coroutine."""

    def method(client: "BlockingClient", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return client._run(call(client._client, *args, **kwargs))

    functools.update_wrapper(method, call)
    return _Method(method)


def _stream(
    call: Callable[Concatenate[Client, _P], AsyncIterable[_T]],
) -> _Method[_P, Iterator[_T]]:
    """Make a method that iterates over the client's stream and waits for each item."""

    def method(client: "BlockingClient", /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
        return client._each(aiter(call(client._client, *args, **kwargs)))

    functools.update_wrapper(method, call)
    return _Method(method)


class BlockingClient:
    """``Client`` without ``await``, for one thread. Do not use it inside a running event loop."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        *,
        organization: str | None = None,
        patience: float = DEFAULT_PATIENCE_SECONDS,
    ) -> None:
        self._client = Client(url, token, organization=organization, patience=patience)
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

    @functools.wraps(Client.json)  # a query parameter may have any name, so no argument has one
    def json(self, *segments: str, **query: str) -> Any:
        return self._run(self._client.json(*segments, **query))

    projects = _call(Client.projects)
    project = _call(Client.project)
    put_project = _call(Client.put_project)
    check_project = _call(Client.check_project)
    put_checked_project = _call(Client.put_checked_project)
    delete_project = _call(Client.delete_project)
    project_history = _call(Client.project_history)
    project_version = _call(Client.project_version)
    revert_project = _call(Client.revert_project)

    build = _call(Client.build)
    deploy = _call(Client.deploy)
    rebuild = _call(Client.rebuild)
    session = _call(Client.session)
    stop = _call(Client.stop)
    resolve = _call(Client.resolve)

    workloads = _call(Client.workloads)
    workload = _call(Client.workload)
    explanation = _call(Client.explanation)
    activity = _call(Client.activity)
    log = _call(Client.log)
    log_with_times = _call(Client.log_with_times)
    artifacts = _call(Client.artifacts)
    wait = _call(Client.wait)
    wait_for_jobs = _call(Client.wait_for_jobs)
    follow_log = _stream(Client.follow_log)
    download = _stream(Client.download)
    events = _stream(Client.events)

    workers = _call(Client.workers)
    boxes = _call(Client.boxes)
    nodes = _call(Client.nodes)
    metrics = _call(Client.metrics)
    drain_worker = _call(Client.drain_worker)
    resume_worker = _call(Client.resume_worker)
    remove_worker = _call(Client.remove_worker)
    ghosts = _call(Client.ghosts)
    restore_ghost = _call(Client.restore_ghost)
    kill_ghost = _call(Client.kill_ghost)
    forget_node = _call(Client.forget_node)
    organizations = _call(Client.organizations)
    put_organization = _call(Client.put_organization)
    delete_organization = _call(Client.delete_organization)

    reprioritize = _call(Client.reprioritize)
    pause = _call(Client.pause)
    pauses = _call(Client.pauses)
    resume = _call(Client.resume)
    servers = _call(Client.servers)
    schedules = _call(Client.schedules)
    deliveries = _call(Client.deliveries)
    notifications = _call(Client.notifications)
    notification = _call(Client.notification)
    resend_notification = _call(Client.resend_notification)
    set_aside = _call(Client.set_aside)
    set_aside_command = _call(Client.set_aside_command)
    drop_set_aside = _call(Client.drop_set_aside)

    secrets = _call(Client.secrets)
    set_secret = _call(Client.set_secret)
    delete_secret = _call(Client.delete_secret)
    rotate_secrets = _call(Client.rotate_secrets)

    me = _call(Client.me)
    create_token = _call(Client.create_token)
    tokens = _call(Client.tokens)
    revoke_token = _call(Client.revoke_token)

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
